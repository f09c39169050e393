//! Every path, once: what is served and what is described are made from one list.
//!
//! ```text
//! routes! ─┬─> router       who asks for what gets to which handler
//!          └─> Description  OpenAPI 3.1, with what each handler says of itself
//! ```

use super::{
    ACTING_AS, BODY_LEN_MAX, Shared, answers, changes, members, objects, placing, reports,
    requests, sight, texts, trail, who,
};
use crate::reports::REPORT_LEN_MAX;
use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post, put},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ObjectBuilder, Required, Type,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    },
};
use wireonce_member::messages::JOIN_LEN_MAX;

macro_rules! routes {
    ($($method:ident $path:literal $module:ident::$handler:ident $(at most $len:expr)?;)*) => {
        fn described() -> Router<Shared> {
            let router = Router::new();
            $(let router = router.route(
                $path,
                $method($module::$handler)$(.layer(DefaultBodyLimit::max($len)))?,
            );)*
            router
        }

        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "wireonce control",
                description = "The desired state of an installation, changed by two teams within \
                               their rights. Every error says the thing, what is wrong, what would \
                               be right and, if it is a matter of right, which role can do it."
            ),
            paths($($module::$handler),*),
            components(schemas(
                wireonce_desired::Host,
                wireonce_desired::Pool,
                wireonce_desired::Uplink,
                wireonce_desired::Network,
                wireonce_desired::Policy,
                wireonce_desired::Vnic,
                wireonce_desired::Budget,
                wireonce_desired::Grant,
            )),
            modifiers(&InAnotherRole)
        )]
        struct Description;

        #[cfg(test)]
        const SERVED: &[(&str, &str)] = &[$((stringify!($method), $path)),*];
    };
}

routes! {
    get "/v1/whoami" who::whoami;
    post "/v1/apply" changes::apply;
    get "/v1/export" changes::export;
    get "/v1/hosts/{host}/report" reports::show;
    put "/v1/hosts/{host}/report" reports::put at most REPORT_LEN_MAX;
    get "/v1/hosts" members::hosts;
    get "/v1/hosts/{host}/text" texts::host_text;
    post "/v1/hosts/{host}/certificate" members::renew;
    post "/v1/hosts/{host}/revoke" members::revoke;
    post "/v1/join" members::join at most JOIN_LEN_MAX;
    get "/v1/tokens" members::invitations;
    post "/v1/tokens" members::invite;
    delete "/v1/tokens/{id}" members::forget;
    get "/v1/users" members::people;
    post "/v1/users" members::person;
    post "/v1/users/{name}/revoke" members::revoke_person;
    post "/v1/grants/move" changes::shift;
    post "/v1/grants/end" changes::end;
    get "/v1/now" sight::now;
    get "/v1/advice" sight::advice;
    get "/v1/vnics/{name}/explanation" sight::explanation;
    get "/v1/pools/use" changes::pool_use;
    get "/v1/pools/{name}/rebalance" placing::plan;
    post "/v1/pools/{name}/rebalance" placing::carry_out;
    post "/v1/vnics/{name}/move" placing::rehome;
    get "/v1/uplinks/{name}/drain" placing::uplink_progress;
    post "/v1/uplinks/{name}/drain" placing::drain_uplink;
    post "/v1/uplinks/{name}/undrain" placing::undrain_uplink;
    get "/v1/gateways/{name}/drain" placing::gateway_progress;
    post "/v1/gateways/{name}/drain" placing::drain_gateway;
    post "/v1/gateways/{name}/undrain" placing::undrain_gateway;
    post "/v1/servers/{name}/drain" placing::drain_server;
    get "/v1/requests" requests::list;
    get "/v1/requests/{number}" requests::show;
    post "/v1/requests/{number}" requests::answer;
    post "/v1/requests/{number}/withdraw" requests::withdraw;
    get "/v1/audit" trail::audit;
    get "/v1/watch" trail::watch;
    get "/v1/backup" trail::backup;
    get "/v1/{kind}" objects::list;
    get "/v1/{kind}/{*name}" objects::show;
    put "/v1/{kind}/{*name}" objects::put;
    delete "/v1/{kind}/{*name}" objects::remove;
}

/// All paths.
pub(super) fn router(shared: Shared) -> Router {
    described()
        .route("/v1/openapi.json", get(description))
        .fallback(answers::no_such_path)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(shared)
}

/// OpenAPI 3.1.
async fn description() -> Json<openapi::OpenApi> {
    Json(Description::openapi())
}

/// Whatever is asked, an admin may ask in another role.
struct InAnotherRole;

impl Modify for InAnotherRole {
    fn modify(&self, description: &mut openapi::OpenApi) {
        for operation in description.paths.paths.values_mut().flat_map(operations) {
            operation.parameters.get_or_insert_default().push(acting_as().into());
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = path;
    [get, put, post, delete].into_iter().flatten()
}

fn acting_as() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    ParameterBuilder::new()
        .name(ACTING_AS)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("the role to act in, of an admin: network, virtualisation or viewer"))
        .schema(Some(text))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_served_is_described_as_it_is_served() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let described: BTreeSet<(String, String)> = (description["paths"].as_object().unwrap())
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods.map(|method| (method.clone(), path.clone()))
            })
            .collect();
        let served =
            SERVED.iter().map(|(method, path)| ((*method).to_owned(), path.replace("{*", "{")));
        assert_eq!(described, served.collect());
    }

    /// A client that is made from the description can compare and set, and act in a role.
    #[test]
    fn the_headers_that_matter_are_described() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let headers = |path: &str, method: &str| -> Vec<String> {
            let parameters = description["paths"][path][method]["parameters"].as_array();
            let headers = parameters.into_iter().flatten().filter(|it| it["in"] == "header");
            headers.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let based = ["If-Match", "If-None-Match", ACTING_AS];
        assert_eq!(headers("/v1/{kind}/{name}", "put"), based);
        assert_eq!(headers("/v1/{kind}/{name}", "delete"), based);
        assert_eq!(headers("/v1/apply", "post"), ["If-Match", ACTING_AS]);
        assert_eq!(headers("/v1/watch", "get"), ["Last-Event-ID", ACTING_AS]);
        assert_eq!(headers("/v1/whoami", "get"), [ACTING_AS]);
        let shown = &description["paths"]["/v1/{kind}/{name}"]["get"]["responses"]["200"];
        assert!(shown["headers"]["ETag"].is_object(), "{shown}");
    }
}

//! A house: all objects of one installation, by kind and name.

use crate::{
    kind::Kind,
    object::{Budget, Grant, Host, Network, Object, Policy, Pool, Uplink, Vnic},
};
use std::collections::BTreeMap;

/// All objects of one installation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct House {
    objects: BTreeMap<Kind, BTreeMap<String, Object>>,
}

impl House {
    /// The object of this kind and name.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&kind)?.get(name)
    }

    /// Adds an object, or takes the place of the one with its name, which is returned.
    pub fn put(&mut self, object: Object) -> Option<Object> {
        self.objects.entry(object.kind()).or_default().insert(object.name(), object)
    }

    /// Removes an object.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Option<Object> {
        let named = self.objects.get_mut(&kind)?;
        let removed = named.remove(name);
        if named.is_empty() {
            self.objects.remove(&kind);
        }
        removed
    }

    /// The pool that a vNIC's network is on.
    #[must_use]
    pub fn pool_of(&self, vnic: &Vnic) -> Option<&str> {
        self.network(&vnic.network)?.pool.as_deref()
    }

    /// All objects, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.values().flat_map(BTreeMap::values)
    }

    /// The objects of a kind, by name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// The names of a kind's objects, in order.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.objects.get(&kind).into_iter().flat_map(|named| named.keys().map(String::as_str))
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.objects.get(&kind).map_or(0, BTreeMap::len)
    }

    /// Servers and gateways, servers first, each with its kind.
    pub fn hosts(&self) -> impl Iterator<Item = (Kind, &Host)> {
        let both = self.of(Kind::Server).chain(self.of(Kind::Gateway));
        both.filter_map(|object| match object {
            Object::Server(host) => Some((Kind::Server, host)),
            Object::Gateway(host) => Some((Kind::Gateway, host)),
            _ => None,
        })
    }

    /// Whether vNICs are to leave an uplink: it drains, or its gateway does.
    #[must_use]
    pub fn is_draining(&self, uplink: &Uplink) -> bool {
        let gateway = || self.get(Kind::Gateway, &uplink.host);
        uplink.draining || matches!(gateway(), Some(Object::Gateway(host)) if host.draining)
    }

    /// The same with objects of these kinds only.
    #[must_use]
    pub fn only(&self, kinds: &[Kind]) -> Self {
        let named = |kind: &Kind| Some((*kind, self.objects.get(kind)?.clone()));
        Self { objects: kinds.iter().filter_map(named).collect() }
    }

    /// The kind of the host with this name.
    #[must_use]
    pub fn host_kind(&self, name: &str) -> Option<Kind> {
        [Kind::Server, Kind::Gateway].into_iter().find(|kind| self.get(*kind, name).is_some())
    }
}

impl FromIterator<Object> for House {
    fn from_iter<I: IntoIterator<Item = Object>>(objects: I) -> Self {
        let mut house = Self::default();
        for object in objects {
            house.put(object);
        }
        house
    }
}

/// Typed views of the objects of one kind.
macro_rules! typed {
    ($(#[$doc:meta])* $many:ident, $one:ident, $kind:ident, $type:ty) => {
        impl House {
            $(#[$doc])*
            pub fn $many(&self) -> impl Iterator<Item = &$type> {
                self.of(Kind::$kind).filter_map(|object| match object {
                    Object::$kind(it) => {
                        // A vNIC stands in a box, the others do not.
                        let it: &$type = it;
                        Some(it)
                    }
                    _ => None,
                })
            }

            /// The one with this name.
            #[must_use]
            pub fn $one(&self, name: &str) -> Option<&$type> {
                match self.get(Kind::$kind, name) {
                    Some(Object::$kind(it)) => {
                        let it: &$type = it;
                        Some(it)
                    }
                    _ => None,
                }
            }
        }
    };
}

typed!(
    /// The pools, by name.
    pools, pool, Pool, Pool
);
typed!(
    /// The uplinks, by name.
    uplinks, uplink, Uplink, Uplink
);
typed!(
    /// The networks, by name.
    networks, network, Network, Network
);
typed!(
    /// The policies, by name.
    policies, policy, Policy, Policy
);
typed!(
    /// The vNICs, by name.
    vnics, vnic, Vnic, Vnic
);
typed!(
    /// The budgets, by pool.
    budgets, budget, Budget, Budget
);
typed!(
    /// The grants, by pool and server.
    grants, grant, Grant, Grant
);

//! What differs between two houses, field by field, for people and for the audit trail.

use crate::{house::House, kind::Kind, object::Object};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt};

/// What differs, by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Difference {
    /// One entry for each object that differs.
    pub objects: Vec<ObjectDifference>,
}

/// How one object differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ObjectDifference {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Whether it is new, changed or gone.
    pub change: ChangeKind,
    /// The fields that differ.
    pub fields: Vec<FieldDifference>,
}

/// New, changed or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Was not there.
    Added,
    /// Is there with other fields.
    Changed,
    /// Is not there any more.
    Removed,
}

/// How one field differs; `None` is a field that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FieldDifference {
    /// The key; `up.limit` for a key inside a table.
    pub field: String,
    /// Before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub before: Option<Value>,
    /// After.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub after: Option<Value>,
}

impl Difference {
    /// What has to change in `before` to make it `after`.
    #[must_use]
    pub fn between(before: &House, after: &House) -> Self {
        let mut objects = Vec::new();
        for kind in Kind::ALL {
            let names: BTreeSet<&str> = before.names(kind).chain(after.names(kind)).collect();
            for name in names {
                let (old, new) = (before.get(kind, name), after.get(kind, name));
                objects.extend(ObjectDifference::between(kind, name, old, new));
            }
        }
        Self { objects }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

impl ObjectDifference {
    /// How an object differs, if it does.
    #[must_use]
    pub fn between(
        kind: Kind,
        name: &str,
        old: Option<&Object>,
        new: Option<&Object>,
    ) -> Option<Self> {
        let change = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), None) => ChangeKind::Removed,
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => ChangeKind::Changed,
        };
        let json = |object: Option<&Object>| object.and_then(|it| serde_json::to_value(it).ok());
        let fields = FieldDifference::between(json(old).as_ref(), json(new).as_ref());
        Some(Self { kind, name: name.to_owned(), change, fields })
    }
}

impl FieldDifference {
    /// The fields in which two objects differ, as JSON has them.
    #[must_use]
    pub fn between(old: Option<&Value>, new: Option<&Value>) -> Vec<Self> {
        let (old, new) = (fields(old), fields(new));
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        keys.into_iter()
            .filter(|key| old.get(*key) != new.get(*key))
            .map(|key| Self {
                field: key.clone(),
                before: old.get(key).cloned(),
                after: new.get(key).cloned(),
            })
            .collect()
    }
}

/// The fields of an object; those of its tables as `table.field`.
fn fields(object: Option<&Value>) -> Map<String, Value> {
    let mut flat = Map::new();
    if let Some(Value::Object(fields)) = object.cloned() {
        for (key, value) in fields {
            match value {
                Value::Object(inner) => {
                    let inner = inner.into_iter().map(|(k, v)| (format!("{key}.{k}"), v));
                    flat.extend(inner);
                }
                value => {
                    flat.insert(key, value);
                }
            }
        }
    }
    flat
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.iter().try_for_each(|object| write!(f, "{object}"))
    }
}

impl fmt::Display for ObjectDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            ChangeKind::Added => '+',
            ChangeKind::Changed => '~',
            ChangeKind::Removed => '-',
        };
        writeln!(f, "{sign} {} {}", self.kind, self.name)?;
        if self.change == ChangeKind::Removed {
            return Ok(());
        }
        for FieldDifference { field, before, after } in &self.fields {
            match (before, after) {
                (Some(before), Some(after)) => writeln!(f, "    {field}: {before} -> {after}")?,
                (None, Some(after)) => writeln!(f, "    {field}: {after}")?,
                (Some(before), None) => writeln!(f, "    {field}: {before} -> left out")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

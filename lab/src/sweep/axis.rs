//! What a sweep varies.

use super::SweepError;
use crate::names::Named;
use crate::settings::{Key, Settings};
use std::path::Path;

/// Settings that are varied together: one of a matrix, several that are zipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Which.
    pub keys: Vec<Key>,
    /// Their values, a row at a time, each as long as `keys`.
    pub rows: Vec<Vec<String>>,
}

impl Axis {
    /// The axes of a matrix: each key by itself.
    pub(super) fn of_matrix(path: &Path, table: &toml::Table) -> Result<Vec<Self>, SweepError> {
        let axis = |(name, value): (&String, &toml::Value)| {
            let (key, column) = column(path, name, value)?;
            Ok(Self {
                keys: vec![key],
                rows: column.into_iter().map(|value| vec![value]).collect(),
            })
        };
        table.iter().map(axis).collect()
    }

    /// The one axis of keys that are zipped.
    pub(super) fn of_zip(path: &Path, table: &toml::Table) -> Result<Self, SweepError> {
        let columns = table.iter().map(|(name, value)| column(path, name, value));
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        let Some((first, values)) = columns.first() else {
            return Err(SweepError::EmptyZip {
                path: path.to_owned(),
            });
        };
        let rows = values.len();
        if let Some((other, values)) = columns.iter().find(|(_, values)| values.len() != rows) {
            return Err(SweepError::Uneven {
                path: path.to_owned(),
                first: first.name(),
                rows,
                other: other.name(),
                other_rows: values.len(),
            });
        }
        let row = |number: usize| columns.iter().map(|(_, of)| of[number].clone()).collect();
        Ok(Self {
            keys: columns.iter().map(|(key, _)| *key).collect(),
            rows: (0..rows).map(row).collect(),
        })
    }
}

/// A key and the values that it takes.
fn column(path: &Path, name: &str, value: &toml::Value) -> Result<(Key, Vec<String>), SweepError> {
    let toml::Value::Array(values) = value else {
        return Err(SweepError::NoArray {
            path: path.to_owned(),
            key: name.to_owned(),
            found: value.type_str(),
        });
    };
    let key = Settings::known_key(path, name)?;
    if values.is_empty() {
        return Err(SweepError::EmptyAxis {
            path: path.to_owned(),
            key: key.name(),
        });
    }
    let text = |value| Settings::text_of(path, key, value).map_err(SweepError::from);
    Ok((key, values.iter().map(text).collect::<Result<_, _>>()?))
}

//! A JSON document with one long list, written while the list is made.

use std::cell::RefCell;

use reliab_common::exit::Exit;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::app::schema;

/// The document: a beginning, a list, and an end that is known only after the list.
pub(crate) struct Stream<'a, I> {
    /// Name of the command.
    pub name: &'static str,
    /// What is known before the list.
    pub head: Map<String, Value>,
    /// The list's name.
    pub list: &'static str,
    /// The list, taken when it is written.
    pub items: RefCell<Option<I>>,
    /// How it ended: asked once the list is written.
    pub end: &'a dyn Fn() -> (Exit, Map<String, Value>),
}

impl<I: Iterator<Item: Serialize>> Serialize for Stream<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &schema(self.name))?;
        self.head.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
        map.serialize_entry(self.list, &List(&self.items))?;
        let (exit, end) = (self.end)();
        map.serialize_entry("exit", &exit.code())?;
        map.serialize_entry("outcome", &exit)?;
        end.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
        map.end()
    }
}

/// The keys and values of a JSON object.
pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

struct List<'a, I>(&'a RefCell<Option<I>>);

impl<I: Iterator<Item: Serialize>> Serialize for List<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for item in self.0.borrow_mut().take().into_iter().flatten() {
            list.serialize_element(&item)?;
        }
        list.end()
    }
}

//! Names of users and groups by number, looked up once each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::format::entry::Meta;
use crate::format::page::Names;

/// Looks names up in the system's user and group databases and remembers them, misses too.
#[derive(Default)]
pub struct NameCache {
    users: BTreeMap<u32, Option<String>>,
    groups: BTreeMap<u32, Option<String>>,
}

impl NameCache {
    /// User and group name of an owner, empty where unknown.
    pub fn of(&mut self, meta: &Meta) -> (&str, &str) {
        let user = remember(&mut self.users, meta.uid, |id| {
            nix::unistd::User::from_uid(id.into()).ok().flatten().map(|user| user.name)
        });
        let group = remember(&mut self.groups, meta.gid, |id| {
            nix::unistd::Group::from_gid(id.into()).ok().flatten().map(|group| group.name)
        });
        (user, group)
    }

    /// Adds an owner's names to those of a page.
    pub fn add_to(&mut self, names: &mut Names, meta: &Meta) {
        let (user, group) = self.of(meta);
        if !user.is_empty() && !names.users.contains_key(&meta.uid) {
            names.users.insert(meta.uid, user.to_owned());
        }
        if !group.is_empty() && !names.groups.contains_key(&meta.gid) {
            names.groups.insert(meta.gid, group.to_owned());
        }
    }
}

fn remember(
    map: &mut BTreeMap<u32, Option<String>>,
    id: u32,
    look_up: impl FnOnce(u32) -> Option<String>,
) -> &str {
    let name = match map.entry(id) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => new.insert(look_up(id)),
    };
    name.as_deref().unwrap_or_default()
}

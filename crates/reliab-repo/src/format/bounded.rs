//! Lists and maps in JSON that are refused at the first item too many: what is written short may take much room in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A list of at most `MAX` items.
pub(super) struct List<T, const MAX: usize>(pub(super) Vec<T>);

/// A map of at most `MAX` items.
pub(super) struct Map<K, V, const MAX: usize>(pub(super) BTreeMap<K, V>);

impl<K, V, const MAX: usize> Default for Map<K, V, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

struct Items<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} items")));
            }
            list.push(item);
        }
        Ok(list)
    }
}

struct Pairs<K, V, const MAX: usize>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, const MAX: usize> Visitor<'de>
    for Pairs<K, V, MAX>
{
    type Value = BTreeMap<K, V>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "a map of at most {MAX}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<BTreeMap<K, V>, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = pairs.next_entry()? {
            if map.len() == MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} items")));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Items::<T, MAX>(PhantomData)).map(Self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, const MAX: usize> Deserialize<'de>
    for Map<K, V, MAX>
{
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Pairs::<K, V, MAX>(PhantomData)).map(Self)
    }
}

/// The longest string of a page, bytes: the largest attribute in base64 is shorter.
const STRING_MAX: usize = 8 << 20;

/// True if a line holds a string that no page has: an error about it would repeat it, with escapes.
pub(super) fn has_long_string(line: &str) -> bool {
    // No escape ever occurs in a page, so each second quote begins a string.
    line.len() > STRING_MAX
        && (line.contains('\\') || line.split('"').skip(1).step_by(2).any(|text| text.len() > STRING_MAX))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::page::decode_page;
    use super::super::table::BlobKind;

    const ME: &str =
        "format::bounded::tests::a_page_that_lies_is_refused_in_little_more_memory_than_its_text_takes";

    /// The most memory that this process ever had, MiB.
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// A page as long as pages may be, in which `item` fills the place of `{}`.
    fn filled(page: &str, item: &str) -> Vec<u8> {
        let (before, after) = page.split_once("{}").unwrap();
        let room = BlobKind::Page.limit() as usize - page.len();
        let mut text = Vec::with_capacity(BlobKind::Page.limit() as usize);
        text.extend_from_slice(before.as_bytes());
        (0..room / item.len()).for_each(|_| text.extend_from_slice(item.as_bytes()));
        text.extend_from_slice(item.trim_end_matches(',').as_bytes());
        text.extend_from_slice(after.as_bytes());
        text
    }

    #[test]
    fn a_page_that_lies_is_refused_in_little_more_memory_than_its_text_takes() {
        if std::env::var_os("RELIAB_TEST_ALONE").is_none() {
            // A process of its own: other tests take memory, too.
            let mut alone = Command::new(std::env::current_exe().unwrap());
            let output = alone.args(["--exact", ME]).env("RELIAB_TEST_ALONE", "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let head = r#"{"page":1,"blobs":[],"users":{},"groups":{},"blake3":""}"#;
        let of_head = |key: &str, value: &str| head.replacen(key, value, 1) + "\n";
        let line =
            |rest: &str| format!("{head}\n{{\"path\":\"a\",\"type\":\"file\",\"mode\":\"644\",{rest}}}\n");
        let large = |rest: &str| line(&format!("\"size\":72057594037927936,\"head\":0,{rest}"));
        let pages = [
            ("blobs", filled(&of_head("[]", "[{}]"), "\"\",")),
            ("users", filled(&of_head("\"users\":{}", "\"users\":{{}\"1\":\"\"}"), "\"0\":\"\",")),
            ("digests", filled(&of_head("\"blake3\":\"\"", "\"blake3\":\"{}\""), "AAAA")),
            ("a key", filled(&of_head("\"page\"", "\"{}\""), "\u{7f}")),
            ("a path", filled(&line("\"size\":0").replace("\"a\"", "\"%{}\""), "\u{7f}")),
            ("a number", filled(&line("\"uid\":\"{}\""), "\u{7f}")),
            ("a target", filled(&line("\"target\":\"{}\""), "%00")),
            ("attributes", filled(&line("\"xattrs\":{{}\"b\":\"\"}"), "\"a\":\"\",")),
            ("a value", filled(&line("\"xattrs\":{\"a\":\"{}\"}"), "AAAA")),
            ("places", filled(&line("\"at\":[{}]"), "0,")),
            ("chunks", filled(&large("\"chunks\":[{}]"), "0,")),
            ("extents", filled(&large("\"extents\":[{}]"), "[0,0,1],")),
            ("segments", filled(&large("\"chunks\":[],\"map\":[{}]"), "[0,0],")),
            ("lines", filled(&format!("{head}\n{{}}"), "{\"path\":\"a\",\"type\":\"gone\"}\n")),
        ];
        for (what, text) in pages {
            let before = peak();
            let refused = decode_page(&text).unwrap_err().0;
            let took = peak() - before;
            assert!(took < 450, "{what}: {took} MiB");
            assert!(refused.len() < 1000, "{what}: {} bytes of an error", refused.len());
        }
    }
}

//! Encoding of POSIX pax records (POSIX.1-2017, pax; GNU tar manual, "Sparse Formats").

use super::entry::{Kind, Meta, Xattr};

const BLOCK: usize = 512;

/// What goes into a record's header.
pub struct Header<'a> {
    /// Path in the snapshot.
    pub path: &'a [u8],
    /// Owner, mode and times.
    pub meta: &'a Meta,
    /// User and group names, empty where unknown.
    pub names: (&'a str, &'a str),
    /// Extended attributes.
    pub xattrs: &'a [Xattr],
    /// Type and its own fields.
    pub body: Body<'a>,
}

/// The type of a record.
pub enum Body<'a> {
    /// Regular file of this many bytes.
    File(u64),
    /// Regular file with holes: its size and data segments.
    Sparse(u64, &'a [(u64, u64)]),
    /// Second name of a file whose record came before.
    HardLink(&'a [u8]),
    /// Folder.
    Dir,
    /// Symbolic link to a target.
    Symlink(&'a [u8]),
    /// Named pipe.
    Fifo,
    /// Character device: major, minor.
    Char(u32, u32),
    /// Block device: major, minor.
    Block(u32, u32),
}

impl<'a> Body<'a> {
    /// The body of a record for an entry that is not a regular file.
    pub fn special(kind: &'a Kind) -> Option<Self> {
        Some(match kind {
            Kind::File(_) => return None,
            Kind::Dir(_) => Self::Dir,
            Kind::Symlink(_, target) => Self::Symlink(target),
            Kind::Fifo(_) => Self::Fifo,
            Kind::Char(_, major, minor) => Self::Char(*major, *minor),
            Kind::Block(_, major, minor) => Self::Block(*major, *minor),
        })
    }

    fn type_flag(&self) -> u8 {
        match self {
            Self::File(_) | Self::Sparse(..) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::Char(..) => b'3',
            Self::Block(..) => b'4',
            Self::Dir => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// Zeros to add after `len` bytes of content.
pub fn padding(len: u64) -> usize {
    // Smaller than a block, so it always fits.
    usize::try_from(len.next_multiple_of(BLOCK as u64) - len).unwrap_or(0)
}

/// Appends the header blocks of a record, with a sparse file's map.
pub fn encode(out: &mut Vec<u8>, header: &Header<'_>) {
    let mut path = header.path.to_vec();
    if matches!(header.body, Body::Dir) && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let map = match &header.body {
        Body::Sparse(size, segments) => sparse_map(*size, segments),
        _ => Vec::new(),
    };
    let size = match &header.body {
        Body::File(size) => *size,
        Body::Sparse(_, segments) => map.len() as u64 + segments.iter().map(|&(_, len)| len).sum::<u64>(),
        _ => 0,
    };
    let mut pax = Vec::new();
    let main = ustar(header, &path, size, &mut pax);
    if !pax.is_empty() {
        out.extend_from_slice(&pax_header(pax.len() as u64));
        pad_to_block(out, &pax);
    }
    out.extend_from_slice(&main);
    out.extend_from_slice(&map);
}

fn pad_to_block(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len() as u64), 0);
}

/// GNU.sparse 1.0: number of segments, then offset and length of each, a decimal line each, padded to a block.
///
/// A file that ends in a hole gets an empty segment at its end, without which GNU tar restores it too short.
fn sparse_map(size: u64, segments: &[(u64, u64)]) -> Vec<u8> {
    let end = segments.last().map_or(0, |&(offset, len)| offset + len);
    let closing = (end < size).then_some((size, 0));
    let mut text = format!("{}\n", segments.len() + usize::from(closing.is_some()));
    for (offset, len) in segments.iter().chain(&closing) {
        text.push_str(&format!("{offset}\n{len}\n"));
    }
    let mut map = Vec::new();
    pad_to_block(&mut map, text.as_bytes());
    map
}

/// The header of an `x` record. Its own fields are constant, so that it compresses to nothing.
fn pax_header(len: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, 0, b"PaxHeaders/entry");
    octal(&mut block[100..108], 0o644);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], len);
    octal(&mut block[136..148], 0);
    block[156] = b'x';
    finish(&mut block);
    block
}

/// The ustar block; what does not fit it is appended to `pax`.
fn ustar(header: &Header<'_>, path: &[u8], size: u64, pax: &mut Vec<u8>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put_path(&mut block, path, pax);
    octal(&mut block[100..108], u64::from(header.meta.mode));
    number(&mut block[108..116], i64::from(header.meta.uid), "uid", pax);
    number(&mut block[116..124], i64::from(header.meta.gid), "gid", pax);
    number(&mut block[124..136], i64::try_from(size).unwrap_or(i64::MAX), "size", pax);
    number(&mut block[136..148], header.meta.mtime.seconds, "mtime", pax);
    block[156] = header.body.type_flag();
    put_name(&mut block, 265, header.names.0);
    put_name(&mut block, 297, header.names.1);
    match &header.body {
        Body::HardLink(target) | Body::Symlink(target) => put_link(&mut block, target, pax),
        Body::Char(major, minor) | Body::Block(major, minor) => {
            octal(&mut block[329..337], u64::from(*major));
            octal(&mut block[337..345], u64::from(*minor));
        }
        Body::Sparse(real, _) => put_sparse(header.path, *real, pax),
        _ => {}
    }
    header.xattrs.iter().for_each(|xattr| put_xattr(xattr, pax));
    finish(&mut block);
    block
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Zero-filled octal digits and a NUL; the value fits or the caller said so in pax.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    if text.len() == digits {
        field[..digits].copy_from_slice(text.as_bytes());
    }
}

fn number(field: &mut [u8], value: i64, key: &str, pax: &mut Vec<u8>) {
    let bits = 3 * (field.len() - 1);
    match u64::try_from(value) {
        Ok(small) if small >> bits == 0 => octal(field, small),
        _ => {
            octal(field, 0);
            put_pax(pax, key, value.to_string().as_bytes());
        }
    }
}

/// Names longer than the field are left out: readers then use the number.
fn put_name(block: &mut [u8; BLOCK], at: usize, name: &str) {
    if name.len() < 32 {
        put(block, at, name.as_bytes());
    }
}

fn put_path(block: &mut [u8; BLOCK], path: &[u8], pax: &mut Vec<u8>) {
    if path.is_ascii() && path.len() <= 100 {
        return put(block, 0, path);
    }
    if path.is_ascii()
        && let Some(slash) = ustar_split(path)
    {
        put(block, 345, &path[..slash]);
        return put(block, 0, &path[slash + 1..]);
    }
    put_pax(pax, "path", path);
    // For readers without pax: the end of the name, which is better than none.
    let tail = &path[path.len().saturating_sub(100)..];
    put(block, 0, tail.strip_prefix(b"/").unwrap_or(tail));
}

/// Where ustar's prefix (at most 155 bytes) and name (1 to 100 bytes) part.
fn ustar_split(path: &[u8]) -> Option<usize> {
    let earliest = path.len().checked_sub(101)?;
    let last = path.len().min(156);
    (earliest..last).find(|&at| path[at] == b'/' && at > 0 && at + 1 < path.len())
}

fn put_link(block: &mut [u8; BLOCK], target: &[u8], pax: &mut Vec<u8>) {
    if target.is_ascii() && target.len() <= 100 {
        put(block, 157, target);
    } else {
        put_pax(pax, "linkpath", target);
        put(block, 157, &target[..target.len().min(100)]);
    }
}

fn put_sparse(path: &[u8], real_size: u64, pax: &mut Vec<u8>) {
    put_pax(pax, "GNU.sparse.major", b"1");
    put_pax(pax, "GNU.sparse.minor", b"0");
    put_pax(pax, "GNU.sparse.name", path);
    put_pax(pax, "GNU.sparse.realsize", real_size.to_string().as_bytes());
}

fn put_xattr((name, value): &Xattr, pax: &mut Vec<u8>) {
    let acl = match name.as_slice() {
        b"system.posix_acl_access" => Some("SCHILY.acl.access"),
        b"system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    };
    match acl.and_then(|key| Some((key, acl_text(value)?))) {
        Some((key, text)) => put_pax(pax, key, text.as_bytes()),
        None => put_pax_bytes(pax, &xattr_keyword(name), value),
    }
}

/// The pax keyword of an attribute; `%` and `=` in its name are written as GNU tar does (its src/xheader.c).
fn xattr_keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = b"SCHILY.xattr.".to_vec();
    for &byte in name {
        match byte {
            b'%' => keyword.extend_from_slice(b"%25"),
            b'=' => keyword.extend_from_slice(b"%3D"),
            _ => keyword.push(byte),
        }
    }
    keyword
}

/// A POSIX ACL attribute (Linux, version 2) in the short text form of acl(5), with numbers for names.
fn acl_text(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&[2, 0, 0, 0])?;
    let mut text = Vec::new();
    for entry in entries.chunks(8) {
        let entry: [u8; 8] = entry.try_into().ok()?;
        let permissions = u16::from_le_bytes([entry[2], entry[3]]);
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let who = match u16::from_le_bytes([entry[0], entry[1]]) {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let bit = |mask, letter| if permissions & mask != 0 { letter } else { '-' };
        text.push(format!("{who}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x')));
    }
    Some(text.join(","))
}

fn put_pax(pax: &mut Vec<u8>, key: &str, value: &[u8]) {
    put_pax_bytes(pax, key.as_bytes(), value);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn put_pax_bytes(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    pax.extend_from_slice(format!("{len} ").as_bytes());
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

fn finish(block: &mut [u8; BLOCK]) {
    put(block, 257, b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
    put(block, 148, format!("{sum:06o}\0 ").as_bytes());
}

/// Where a record's content lies in its bundle: behind its header blocks, `size` bytes.
///
/// `None` if there is no record of such a file at `offset`.
pub fn content_range(bundle: &[u8], offset: u32, size: u64) -> Option<std::ops::Range<usize>> {
    let mut at = usize::try_from(offset).ok()?;
    let mut header = bundle.get(at..at.checked_add(BLOCK)?)?;
    if header[156] == b'x' {
        let len = read_octal(&header[124..136])?;
        at = at.checked_add(BLOCK)?.checked_add(len.checked_next_multiple_of(BLOCK)?)?;
        header = bundle.get(at..at.checked_add(BLOCK)?)?;
    }
    let size = usize::try_from(size).ok()?;
    let is_file = header[156] == b'0' && read_octal(&header[124..136])? == size;
    let start = at + BLOCK;
    let end = start.checked_add(size)?;
    (is_file && end <= bundle.len()).then_some(start..end)
}

fn read_octal(field: &[u8]) -> Option<usize> {
    let digits = field.split(|&b| b == 0).next()?;
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_lengths_count_themselves() {
        let check = |value_len: usize| {
            let mut pax = Vec::new();
            put_pax(&mut pax, "path", &vec![b'x'; value_len]);
            let text = String::from_utf8(pax).unwrap();
            let (len, _) = text.split_once(' ').unwrap();
            assert_eq!(len.parse::<usize>().unwrap(), text.len(), "value of {value_len}");
        };
        (0..2000).for_each(check);
    }

    #[test]
    fn a_file_that_ends_in_a_hole_says_where_it_ends() {
        let text = |size, segments: &[(u64, u64)]| {
            let map = sparse_map(size, segments);
            assert_eq!(map.len() % BLOCK, 0);
            String::from_utf8(map).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!(text(100, &[(50, 50)]), "1\n50\n50\n");
        assert_eq!(text(100, &[(0, 10)]), "2\n0\n10\n100\n0\n");
        assert_eq!(text(100, &[]), "1\n100\n0\n");
    }

    #[test]
    fn acl_attribute_becomes_acl_text() {
        let mut value = vec![2, 0, 0, 0];
        for (tag, perm, id) in
            [(1u16, 6u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
        {
            value.extend(tag.to_le_bytes());
            value.extend(perm.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        assert_eq!(acl_text(&value).unwrap(), "user::rw-,user:1000:r--,group::r--,mask::r--,other::---");
        assert_eq!(acl_text(&value[..7]), None);
        assert_eq!(acl_text(b"\x03\0\0\0"), None);
    }
}

//! Identifiers: what a blob means (BLAKE3) and what lies on disk (SHA-256).

use std::{fmt, io};

use ring::digest::{Context, SHA256};

macro_rules! hash_id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Parses 64 lower-case hexadecimal digits; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                let canonical = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let mut bytes = [0; 32];
                (canonical && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 64];
                // 64 bytes always hold 32 encoded ones.
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }
    };
}

hash_id!(BlobId, "BLAKE3 of a blob's uncompressed bytes.");
hash_id!(ObjectId, "SHA-256 of a repository file's bytes; also its name.");
hash_id!(Digest, "BLAKE3 of a file's content.");

impl BlobId {
    /// The id of a blob with this content.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl ObjectId {
    /// The name of a repository file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = ObjectHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }
}

/// SHA-256 of bytes that come in pieces; the only place that computes it.
pub struct ObjectHasher(Context);

impl Default for ObjectHasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl ObjectHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id of all that came.
    pub fn finish(self) -> ObjectId {
        let mut id = [0; 32];
        id.copy_from_slice(self.0.finish().as_ref());
        ObjectId(id)
    }
}

impl io::Write for ObjectHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second message of FIPS 180-2's appendix B, and a million letters a, its third.
    #[test]
    fn an_object_is_named_by_sha_256_however_its_bytes_are_cut() {
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let named = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
        assert_eq!(ObjectId::of(two_blocks).to_string(), named);

        let letters = vec![b'a'; 1_000_000];
        let named = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        for piece in [1, 63, 64, 65, 4097, 1_000_000] {
            let mut hasher = ObjectHasher::default();
            letters.chunks(piece).for_each(|bytes| hasher.update(bytes));
            assert_eq!(hasher.finish().to_string(), named, "in pieces of {piece}");
        }
    }
}

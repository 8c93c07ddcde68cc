//! Identifiers: what a blob means (BLAKE3) and what lies on disk (SHA-256).

use std::fmt;

use sha2::{Digest as _, Sha256};

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
        Self(Sha256::digest(bytes).into())
    }
}

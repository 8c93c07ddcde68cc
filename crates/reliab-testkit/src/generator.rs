//! Content that looks random and is the same in every run.

/// A stream of numbers from a seed: `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
}

impl Generator {
    /// Equal seeds give equal streams.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_number() % bound
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_number().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Lines of words, which compress about as well as a log.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 8] = ["GET", "/index", "200", "disk", "user", "retry", "took", "bytes"];
        let mut text = Vec::with_capacity(len + 64);
        while text.len() < len {
            let number = self.next_number();
            for shift in 0..6 {
                let word = WORDS[usize::try_from(number >> (shift * 3)).unwrap_or_default() % WORDS.len()];
                text.extend_from_slice(word.as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(format!("{:x}\n", number >> 40).as_bytes());
        }
        text.truncate(len);
        text
    }
}

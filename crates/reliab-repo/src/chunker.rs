//! Where large files are cut: `FastCDC` v2020 (Xia et al., "The Design of Fast Content-Defined Chunking", 2020).

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

use crate::format::config::ChunkerConfig;

/// Finds cut points with a repository's parameters.
pub struct Chunker {
    config: ChunkerConfig,
    masks: (u64, u64),
    gear: Vec<u64>,
    gear_shifted: Vec<u64>,
}

impl Chunker {
    /// A chunker with these parameters.
    pub fn new(config: ChunkerConfig) -> Self {
        let masks = select_masks(config.average as usize, Normalization::Level1);
        let (gear, gear_shifted) = get_gear_with_seed(config.seed);
        Self { config, masks, gear: gear.into_owned(), gear_shifted: gear_shifted.into_owned() }
    }

    /// The most bytes a chunk may have; `cut` needs to see that many, or all that is left.
    pub fn max(&self) -> usize {
        self.config.max as usize
    }

    /// Length of the first chunk of `data`.
    pub fn cut(&self, data: &[u8]) -> usize {
        let ChunkerConfig { min, average, max, .. } = self.config;
        let (strict, relaxed) = self.masks;
        let sizes = (min as usize, average as usize, max as usize);
        let (_, len) = cut_gear(
            data,
            sizes.0,
            sizes.1,
            sizes.2,
            strict,
            relaxed,
            strict << 1,
            relaxed << 1,
            &self.gear,
            &self.gear_shifted,
        );
        len
    }
}

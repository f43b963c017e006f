//! What a client may read: for every sector, the values that are permissible.
//!
//! Requests have a global order, that of their arrival. A sector may hold the last write known to have
//! taken effect (acknowledged, or seen by a read), or any later one whose outcome is unknown. What a
//! flush has covered is its floor: losing the power of every good copy takes nothing before it away.

use crate::content::{BLOCK_SECTORS, Block, Tag, ZERO_BLOCK, blocks, sectors};
use format::types::{BLOCK_BYTES, Span};
use std::collections::{BTreeMap, BTreeSet};

/// A request's place in the order of arrival.
pub type Order = u64;

/// One write's part in one block. Its masks have one bit a sector.
#[derive(Clone, Debug)]
struct Entry {
    order: Order,
    values: Block,
    /// The sectors that it writes and that no flush has covered.
    mask: u8,
    /// Of those, the ones that are known to have been overtaken, or not to have happened.
    dead: u8,
    /// Of those, the ones that are known to have taken effect.
    known: u8,
    /// The order in which its acknowledgement came, once it has.
    acknowledged_at: Option<Order>,
}

/// What one block may hold.
#[derive(Clone, Default, Debug)]
struct History {
    /// What is sure to be durable.
    base: Block,
    /// By order.
    entries: Vec<Entry>,
}

impl History {
    /// The permissible values of a sector for a read of this order: the latest first.
    fn values(&self, sector: usize, before: Order) -> impl Iterator<Item = (Option<usize>, Tag)> {
        let bit = 1_u8 << sector;
        let mut known = false;
        let entries = self.entries.iter().enumerate().rev();
        let entries = entries.filter(move |(_, entry)| {
            entry.order < before && entry.mask & bit != 0 && entry.dead & bit == 0
        });
        entries
            .map(move |(at, entry)| (Some(at), entry.values[sector], entry.known & bit != 0))
            .chain([(None, self.base[sector], true)])
            .take_while(move |(_, _, last)| !std::mem::replace(&mut known, *last))
            .map(|(at, value, _)| (at, value))
    }

    /// The sector's write in this place has taken effect as the last before the order.
    fn settle(&mut self, sector: usize, at: usize, before: Order) {
        let bit = 1_u8 << sector;
        for (nth, entry) in self.entries.iter_mut().enumerate() {
            if entry.order < before && entry.mask & bit != 0 {
                let last = nth == at;
                entry.known = if last {
                    entry.known | bit
                } else {
                    entry.known & !bit
                };
                entry.dead = if last { entry.dead } else { entry.dead | bit };
            }
        }
    }

    /// A read of this order has seen a value. Of several writes of the same value the first is sure to
    /// have taken effect, and a later one may have.
    fn seen(&mut self, sector: usize, value: Tag, before: Order) -> bool {
        let bit = 1_u8 << sector;
        let candidates = self
            .values(sector, before)
            .filter(|(_, candidate)| *candidate == value);
        let Some((first, _)) = candidates.last() else {
            return false;
        };
        for (nth, entry) in self.entries.iter_mut().enumerate() {
            if entry.order >= before || entry.mask & bit == 0 {
                continue;
            }
            if Some(nth) == first {
                entry.known |= bit;
            } else if entry.values[sector] != value || Some(nth) < first {
                entry.dead |= bit;
                entry.known &= !bit;
            }
        }
        true
    }
}

/// Why a value is not permissible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// A flush had covered a later write.
    OlderThanFlushed,
    /// It is not the latest.
    NotLatest,
}

/// A wrong sector.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The sector's number in the volume.
    pub sector: u64,
    /// What it holds.
    pub found: Tag,
    /// What it may hold.
    pub permissible: Vec<Tag>,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What a client may read in one history of the volume.
#[derive(Clone, Default, Debug)]
pub struct Oracle {
    blocks: BTreeMap<u32, History>,
    /// Blocks with writes that no flush has covered.
    unflushed: BTreeSet<u32>,
}

impl Oracle {
    /// A write arrives; `values` are its sectors, zeroes if `None`.
    pub fn write(&mut self, order: Order, span: Span, values: Option<&[Tag]>) {
        let touched: Vec<u32> = match values {
            Some(_) => blocks(span).collect(),
            None => self
                .blocks
                .range(blocks(span))
                .map(|(number, _)| *number)
                .collect(),
        };
        for number in touched {
            let (mask, block) = part(span, number, values);
            let entry = Entry {
                order,
                values: block,
                mask,
                dead: 0,
                known: 0,
                acknowledged_at: None,
            };
            self.blocks.entry(number).or_default().entries.push(entry);
            self.unflushed.insert(number);
        }
    }

    /// The write has been acknowledged: what came before it is overtaken.
    pub fn acknowledge(&mut self, order: Order, span: Span, now: Order, durable: bool) {
        for (number, history) in self.blocks.range_mut(blocks(span)) {
            let Some(at) = history
                .entries
                .iter()
                .position(|entry| entry.order == order)
            else {
                continue;
            };
            let mask = history.entries[at].mask;
            for sector in (0..BLOCK_SECTORS).filter(|sector| mask & 1 << sector != 0) {
                history.settle(sector, at, order + 1);
                if durable {
                    history.base[sector] = history.entries[at].values[sector];
                }
            }
            if durable {
                for entry in &mut history.entries[..=at] {
                    entry.mask &= !mask;
                }
                history.entries.retain(|entry| entry.mask != 0);
            } else {
                history.entries[at].acknowledged_at = Some(now);
            }
            if history.entries.is_empty() {
                self.unflushed.remove(number);
            }
        }
    }

    /// A flush that arrived at this place in the order has been acknowledged.
    pub fn flushed(&mut self, order: Order) {
        let dirty = std::mem::take(&mut self.unflushed);
        for number in dirty {
            let history = self.blocks.get_mut(&number).expect("a block with writes");
            let covered = |entry: &Entry| entry.acknowledged_at.is_some_and(|at| at < order);
            let mut floor = 0_u8;
            for at in (0..history.entries.len()).rev() {
                let entry = &mut history.entries[at];
                let lifted = if covered(entry) {
                    entry.mask & !floor
                } else {
                    0
                };
                for sector in (0..BLOCK_SECTORS).filter(|sector| lifted & 1 << sector != 0) {
                    history.base[sector] = entry.values[sector];
                }
                // What a flushed write has overtaken is gone for good.
                floor |= lifted;
                entry.mask &= !floor;
            }
            history.entries.retain(|entry| entry.mask != 0);
            if !history.entries.is_empty() {
                self.unflushed.insert(number);
            }
        }
    }

    /// No copy is left that is sure to have more than what was flushed.
    pub fn lose_unflushed(&mut self) {
        for number in &self.unflushed {
            let history = self.blocks.get_mut(number).expect("a block with writes");
            for entry in &mut history.entries {
                (entry.dead, entry.known, entry.acknowledged_at) = (0, 0, None);
            }
        }
    }

    /// Starts anew from what a disk holds, or may hold after a power cut.
    pub fn rebase(&mut self, contents: impl Iterator<Item = (u32, Block)>) {
        self.blocks.clear();
        self.unflushed.clear();
        for (number, base) in contents {
            self.blocks.insert(
                number,
                History {
                    base,
                    entries: Vec::new(),
                },
            );
        }
    }

    /// A read of this order has returned these sectors. What it saw has taken effect.
    pub fn read(&mut self, order: Order, span: Span, values: &[Tag]) -> Result<(), Mismatch> {
        let first = sectors(span.offset);
        for (nth, found) in values.iter().enumerate() {
            let (number, sector) = place(first + nth);
            let Some(history) = self.blocks.get_mut(&number) else {
                self.check_absent(first + nth, *found)?;
                continue;
            };
            if !history.seen(sector, *found, order) {
                return Err(self.mismatch(first + nth, *found, order));
            }
        }
        Ok(())
    }

    /// Whether a block holds what it may.
    pub fn check(&self, number: u32, block: &Block, order: Order) -> Result<(), Mismatch> {
        for (sector, found) in block.iter().enumerate() {
            let at = number as usize * BLOCK_SECTORS + sector;
            match self.blocks.get(&number) {
                None => self.check_absent(at, *found)?,
                Some(history) => {
                    if !history
                        .values(sector, order)
                        .any(|(_, value)| value == *found)
                    {
                        return Err(self.mismatch(at, *found, order));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_absent(&self, at: usize, found: Tag) -> Result<(), Mismatch> {
        if found == 0 {
            Ok(())
        } else {
            Err(self.mismatch(at, found, Order::MAX))
        }
    }

    fn mismatch(&self, at: usize, found: Tag, order: Order) -> Mismatch {
        let (number, sector) = place(at);
        let empty = History {
            base: ZERO_BLOCK,
            entries: Vec::new(),
        };
        let history = self.blocks.get(&number).unwrap_or(&empty);
        let bit = 1_u8 << sector;
        let later = history.entries.iter().filter(|entry| entry.mask & bit != 0);
        let unflushed = later
            .map(|entry| entry.values[sector])
            .any(|value| value == found);
        let wrong = if unflushed || found == history.base[sector] {
            Wrong::NotLatest
        } else {
            Wrong::OlderThanFlushed
        };
        let permissible = history
            .values(sector, order)
            .map(|(_, value)| value)
            .collect();
        Mismatch {
            sector: at as u64,
            found,
            permissible,
            wrong,
        }
    }

    /// What a sector's history is, for people: each write's order, value, and fate.
    pub fn tell(&self, number: u32, sector: usize) -> String {
        let Some(history) = self.blocks.get(&number) else {
            return "never written".into();
        };
        let bit = 1_u8 << sector;
        let mut text = format!("{:x}", history.base[sector]);
        for entry in history.entries.iter().filter(|entry| entry.mask & bit != 0) {
            let fate = match (entry.dead & bit != 0, entry.known & bit != 0) {
                (true, _) => "dead",
                (false, true) => "known",
                (false, false) => "open",
            };
            let (order, at) = (entry.order, entry.acknowledged_at);
            text += &format!(
                ", {:x} (order {order}, {fate}, acknowledged {at:?})",
                entry.values[sector]
            );
        }
        text
    }

    /// The blocks that a client has ever written, in this history.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.blocks.keys().copied()
    }

    /// The blocks with writes that no flush has covered.
    pub fn unflushed(&self) -> impl Iterator<Item = u32> {
        self.unflushed.iter().copied()
    }

    /// Whether a write that came after this order has touched the block.
    pub fn is_overtaken(&self, number: u32, order: Order) -> bool {
        let history = self.blocks.get(&number);
        history.is_some_and(|history| history.entries.iter().any(|entry| entry.order > order))
    }

    /// Whether the value of the sector would be below what a flush of this order promises.
    pub fn misses_flush(&self, number: u32, sector: usize, value: Tag, order: Order) -> bool {
        let Some(history) = self.blocks.get(&number) else {
            return false;
        };
        let bit = 1_u8 << sector;
        let covered = |entry: &Entry| {
            entry.mask & bit != 0 && entry.acknowledged_at.is_some_and(|at| at < order)
        };
        let Some(floor) = history.entries.iter().rposition(covered) else {
            return false;
        };
        let allowed = history.entries[floor..]
            .iter()
            .filter(|entry| entry.mask & bit != 0);
        !allowed
            .map(|entry| entry.values[sector])
            .any(|allowed| allowed == value)
    }
}

/// Which sectors of a block the span covers, and what it writes there.
fn part(span: Span, number: u32, values: Option<&[Tag]>) -> (u8, Block) {
    let start = u64::from(number) * BLOCK_BYTES;
    let (mut mask, mut block) = (0, ZERO_BLOCK);
    for (sector, value) in block.iter_mut().enumerate() {
        let at = start + sector as u64 * crate::content::SECTOR_BYTES;
        if at >= span.offset && at < span.end() {
            mask |= 1 << sector;
            *value = values.map_or(0, |values| values[sectors(at - span.offset)]);
        }
    }
    (mask, block)
}

/// The block of a sector of the volume, and its place there.
fn place(sector: usize) -> (u32, usize) {
    let number = u32::try_from(sector / BLOCK_SECTORS).expect("a volume has few blocks");
    (number, sector % BLOCK_SECTORS)
}

#[cfg(test)]
mod tests;

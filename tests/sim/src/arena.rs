//! The arena of one life of a node's process, with its claims counted.

use crate::content::{Content, Tag};
use replica::event::Buffer;
use std::rc::Rc;

/// Buffers that a core holds claims on. A number is never given twice in one life, so that the use of
/// a released buffer is always found.
#[derive(Default, Debug)]
pub struct Arena {
    buffers: Vec<Option<Content>>,
    held: usize,
}

/// How a core has broken the rules for buffers; one sentence.
pub type Misuse = String;

impl Arena {
    /// Gives the core a claim on new data.
    pub fn give(&mut self, content: Vec<Tag>) -> Buffer {
        self.share(Rc::new(content))
    }

    /// Gives the core a claim on data that others have in hand too.
    pub fn share(&mut self, content: Content) -> Buffer {
        self.buffers.push(Some(content));
        self.held += 1;
        Buffer(u32::try_from(self.buffers.len() - 1).expect("a life has fewer buffers"))
    }

    /// The core hands its claim back.
    pub fn take(&mut self, buffer: Buffer) -> Result<Content, Misuse> {
        let place = self.buffers.get_mut(buffer.0 as usize);
        let content = place.and_then(Option::take);
        self.held -= usize::from(content.is_some());
        content.ok_or_else(|| format!("{buffer:?} is handed back without a claim"))
    }

    /// Looks at a buffer that the core mentions.
    pub fn get(&self, buffer: Buffer) -> Result<&Content, Misuse> {
        let content = self.buffers.get(buffer.0 as usize).and_then(Option::as_ref);
        content.ok_or_else(|| format!("{buffer:?} is used without a claim"))
    }

    /// Copies sectors of one buffer over those of another, which no operation may have in hand.
    pub fn overlay(
        &mut self,
        base: Buffer,
        patch: Buffer,
        at: usize,
        length: usize,
    ) -> Result<(), Misuse> {
        let patch = self.get(patch)?.clone();
        let content = self
            .buffers
            .get_mut(base.0 as usize)
            .and_then(Option::as_mut);
        let content = content.ok_or_else(|| format!("{base:?} is changed without a claim"))?;
        let content = Rc::get_mut(content)
            .ok_or_else(|| format!("{base:?} is changed while an operation has it in hand"))?;
        if at + length > content.len() || length > patch.len() {
            return Err(format!("{base:?} is changed past its end"));
        }
        content[at..at + length].copy_from_slice(&patch[..length]);
        Ok(())
    }

    /// Buffers that the core holds a claim on.
    pub fn held(&self) -> usize {
        self.held
    }
}

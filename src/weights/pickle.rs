//! A pickle machine that builds containers, numbers, text and tensors. It calls no code of the pickle.
//!
//! Each operation adds at most one object ([`Objects`]).

use std::collections::HashMap;

use super::{
    object::{Called, Global, Id, Node, Objects, Storage, malformed},
    quoted,
};
use crate::error::{Error, Result};

/// Largest pickle in bytes. Those of checkpoints have a few megabytes; data is outside them.
const MAX_BYTES: usize = 64 << 20;
/// Largest number of objects. A checkpoint needs about 20 per tensor.
const MAX_OBJECTS: usize = 4_000_000;

/// Largest number of arguments of a call. `_rebuild_tensor_v3` has eight.
const MAX_ARGS: usize = 16;

/// The machine: operations, a stack and a memo.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    objects: Objects<'a>,
    /// References copied from lists; they count as objects.
    copied: usize,
}

impl<'a> Machine<'a> {
    /// A machine for a stream of pickles at byte `at`.
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, stack: vec![], marks: vec![], memo: HashMap::new(), objects: Objects::default(), copied: 0 }
    }

    /// The byte after the last pickle.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Reads one pickle. The objects of earlier pickles remain.
    ///
    /// # Errors
    /// A pickle that needs a global that no tensor needs, is malformed, or is too large.
    pub(super) fn run(&mut self) -> Result<Id> {
        (self.stack, self.marks, self.memo) = (vec![], vec![], HashMap::new());
        let end = self.at.saturating_add(MAX_BYTES);
        loop {
            if self.at > end || self.objects.len() + self.copied > MAX_OBJECTS {
                return Err(Error::failed("pickle is too large for a checkpoint; only tensors are supported"));
            }
            match self.byte()? {
                b'.' => return self.pop(),
                op => self.step(op)?,
            }
        }
    }

    /// All objects so far.
    pub(super) fn objects(&self) -> &Objects<'a> {
        &self.objects
    }

    fn node(&self, id: Id) -> &Node<'a> {
        self.objects.node(id)
    }

    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => self.stack.push(self.top()?),
            b'h' | b'j' => {
                let slot = if op == b'h' { u32::from(self.byte()?) } else { self.u32()? };
                let id = *self.memo.get(&slot).ok_or_else(|| malformed("uses an empty memo slot"))?;
                self.stack.push(id);
            }
            b'q' | b'r' | 0x94 => {
                let slot = match op {
                    b'q' => u32::from(self.byte()?),
                    b'r' => self.u32()?,
                    _ => self.memo.len() as u32,
                };
                self.memo.insert(slot, self.top()?);
            }
            0x80 => self.protocol()?,
            0x95 => {
                self.take(8)?;
            }
            b'c' | b'i' | 0x93 => self.global(op)?,
            b'Q' => {
                let pid = self.pop()?;
                let storage = Storage::from_pid(&self.objects, pid)?;
                self.push(Node::Storage(Box::new(storage)));
            }
            b'R' | 0x81 => self.reduce()?,
            b'b' => self.build()?,
            b')' | b']' | b'}' | b't' | b'l' | b'd' | 0x85..=0x87 => self.container(op)?,
            b'a' | b'e' | b's' | b'u' => self.extend(op)?,
            _ => self.literal(op)?,
        }
        Ok(())
    }

    fn literal(&mut self, op: u8) -> Result<()> {
        let node = match op {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(self.byte()?.into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'I' => match self.line()? {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                digits => Node::Int(number(digits)?),
            },
            b'L' => Node::Int(number(self.line()?.trim_end_matches('L'))?),
            0x8a => {
                let len = self.byte()?;
                self.long(len.into())?
            }
            0x8b => {
                let len = self.u32()?;
                self.long(len as usize)?
            }
            b'G' => {
                self.take(8)?;
                Node::Opaque
            }
            b'X' | 0x8c | 0x8d => {
                let len = self.len(op)?;
                let text = std::str::from_utf8(self.take(len)?);
                Node::Text(text.map_err(|_| malformed("has text that is not UTF-8"))?)
            }
            // Python 2 writes names as byte strings.
            b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => {
                let len = self.len(op)?;
                let bytes = self.take(len)?;
                match std::str::from_utf8(bytes) {
                    Ok(text) if matches!(op, b'T' | b'U') => Node::Text(text),
                    _ => Node::Opaque,
                }
            }
            _ => return Err(malformed(&format!("uses operation 0x{op:02x}, which no tensor needs"))),
        };
        self.push(node);
        Ok(())
    }

    fn container(&mut self, op: u8) -> Result<()> {
        let node = match op {
            b')' => Node::Tuple(vec![]),
            b']' => Node::List(vec![]),
            b'}' => Node::Dict(vec![]),
            b't' => Node::Tuple(self.pop_mark()?),
            b'l' => Node::List(self.pop_mark()?),
            b'd' => Node::Dict(pairs(&self.pop_mark()?)?),
            _ => {
                let mut items = (0..=op - 0x85).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                Node::Tuple(items)
            }
        };
        self.push(node);
        Ok(())
    }

    fn extend(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let top = self.top()?;
        match (self.objects.node_mut(top), op) {
            (Node::List(list), b'a' | b'e') => list.extend(items),
            (Node::Dict(dict), b's' | b'u') => dict.extend(pairs(&items)?),
            _ => return Err(malformed("adds items to an object that is not a container")),
        }
        Ok(())
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            0..=5 => Ok(()),
            n => Err(malformed(&format!("has protocol {n}; supported: 0 to 5"))),
        }
    }

    fn global(&mut self, op: u8) -> Result<()> {
        let (module, name) = if op == 0x93 {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.node(module), self.node(name)) {
                (&Node::Text(module), &Node::Text(name)) => (module, name),
                _ => return Err(malformed("has a global whose name is not text")),
            }
        } else {
            (self.line()?, self.line()?)
        };
        let global = Global::named(module, name)?;
        self.push(Node::Global(global));
        Ok(())
    }

    fn reduce(&mut self) -> Result<()> {
        let (args, callee) = (self.pop()?, self.pop()?);
        let (&Node::Global(global), Node::Tuple(args)) = (self.node(callee), self.node(args)) else {
            return Err(malformed("calls an object that is not a global"));
        };
        if args.len() > MAX_ARGS {
            return Err(malformed("calls a global with more arguments than torch does"));
        }
        match global.call(&self.objects, args)? {
            Called::Same(id) => self.stack.push(id),
            Called::New(node) => {
                // A pickle may convert the same list many times.
                if let Node::Dict(items) = &node {
                    self.copied += items.len();
                }
                self.push(node);
            }
        }
        Ok(())
    }

    /// Ignores the state of an OrderedDict, its `_metadata`.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let top = self.top()?;
        match self.node(top) {
            Node::Dict(_) => Ok(()),
            _ => Err(malformed("sets attributes of an object that has none; only tensors are supported")),
        }
    }

    fn push(&mut self, node: Node<'a>) {
        let id = self.objects.add(node);
        self.stack.push(id);
    }

    fn pop(&mut self) -> Result<Id> {
        if self.marks.last().is_some_and(|&mark| mark >= self.stack.len()) {
            return Err(malformed("pops from an empty stack"));
        }
        self.stack.pop().ok_or_else(|| malformed("pops from an empty stack"))
    }

    fn top(&self) -> Result<Id> {
        self.stack.last().copied().ok_or_else(|| malformed("pops from an empty stack"))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| malformed("closes a group that it never opened"))?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| Error::failed("truncated within its pickle; download it again"))?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8> {
        self.array().map(|[b]| b)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The length that precedes a string: one, four or eight bytes.
    fn len(&mut self, op: u8) -> Result<usize> {
        Ok(match op {
            b'U' | b'C' | 0x8c => self.byte()?.into(),
            0x8d | 0x8e | 0x96 => usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX),
            _ => self.u32()? as usize,
        })
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(1000).position(|&b| b == b'\n');
        let end = end.ok_or_else(|| malformed("has a line without an end"))?;
        let line = std::str::from_utf8(self.take(end + 1)?).map_err(|_| malformed("has text that is not UTF-8"))?;
        Ok(line.trim_end())
    }

    fn long(&mut self, len: usize) -> Result<Node<'a>> {
        let bytes = self.take(len)?;
        Ok(if len > 8 {
            Node::Big(bytes)
        } else {
            let mut wide = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 }; 8];
            wide[..len].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(wide))
        })
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    match items.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|&[k, v]| (k, v)).collect()),
        _ => Err(malformed("has a dictionary with a key without a value")),
    }
}

fn number(digits: &str) -> Result<i64> {
    digits.parse().map_err(|_| malformed(&format!("has {}, expected a number", quoted(digits))))
}

//! Many inputs: which they are, where their results go, what is finished already, and who works on what.
//!
//! ```text
//! folders, globs, lists, numbered pictures ─▶ sources ─▶ jobs ─▶ run: claim ─▶ pipeline ─▶ record ─▶ name
//!                                                                  │ identity: hashes of input, models, settings
//!                                                                  └ journal: .crescendo.jsonl in the output folder
//! ```
//!
//! **Killed at any moment**, nothing is lost but the items in work. An item is written beside its name under a lock, synced,
//! entered in the journal with its hash, and only then named: a name without an entry was not ours, an entry without its file
//! is an item to be made again, and a file that is not what its entry says was changed by somebody else.
//!
//! **Two runs at once** share items by the locks of the files in the making, and read each other's journal before they begin one.

mod forecast;
mod identity;
mod journal;
mod report;
mod run;
mod sources;
mod throughput;

pub use forecast::plan_enhance;
pub use journal::JOURNAL;
pub use run::enhance;
pub use sources::{Jobs, Typed, jobs};

//! Enhances many inputs: finds them, assigns outputs, skips finished ones, distributes the rest to threads.
//!
//! ```text
//! folders, globs, lists, numbered pictures ─▶ sources ─▶ jobs ─▶ run: claim ─▶ pipeline ─▶ record ─▶ rename
//!                                                                  │ identity: hashes of input, models, settings
//!                                                                  └ journal: .crescendo.jsonl in the output folder
//! ```
//!
//! **A run can be killed at any time**; only items in progress are lost. An item is written to a pending file under a lock, synced,
//! recorded in the journal with its hash, and then renamed. So a file without a record is not from this program, a record
//! without its file means that the item is processed again, and a file that differs from its record was changed by someone else.
//!
//! **Concurrent runs** share the items: each locks the pending files of its items, and reads the journal before it starts one.

mod forecast;
mod identity;
mod journal;
mod record;
mod report;
mod run;
mod sources;
mod throughput;
mod work;

pub use forecast::plan_enhance;
pub use journal::JOURNAL;
pub use run::enhance;
pub use sources::{Jobs, Typed, jobs};

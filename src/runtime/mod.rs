//! ONNX Runtime: sessions, execution providers, memory. The only module that uses `ort`.
//!
//! ```text
//! Options → Engine::start (loads the library, selects the device) → Engine::load → Network::run
//! ```
//!
//! **Threads.** A network runs on its own pool of [`Options::threads`] threads. The default is the number of physical cores
//! that CPU affinity and cgroup quotas allow. Nodes run sequentially. Idle pools sleep after some milliseconds, so networks
//! that run in turn do not slow each other down. Networks that run concurrently require [`Load::shares_cores`], which disables
//! spinning. Pool threads flush denormals to zero.
//!
//! **Memory.** Weights in external data files stay memory-mapped. Matrix product weights are packed into one additional copy
//! unless [`Load::mapped_weights`] is set. Dropping a network releases all of its memory.
//!
//! **Telemetry** is disabled: `ORT_DISABLE_TELEMETRY=1` is set before the library is loaded.

mod cores;
mod cuda_graph;
mod device;
mod doctor;
mod engine;
mod library;
mod memory;
mod network;
mod options;
mod ort_error;
mod ort_value;
mod probe;
mod warp;

pub use cores::{start_workers, threads_available};
pub use doctor::{Description, ProviderState, describe};
pub use engine::Engine;
pub use library::{WANTED, disable_telemetry};
pub use memory::{available_memory, memory_budget, peak_memory, resident_memory, share_heap};
pub use network::{Held, InputValue, Network, Signature};
pub use options::{Device, DeviceChoice, Load, Options};
pub use ort_error::finite;

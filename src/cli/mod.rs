//! The command line: as typed → resolved plan → run.

//! Noise schedules, solvers and torch's random streams.

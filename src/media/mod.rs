//! Pictures, videos and the ordered queues between threads.

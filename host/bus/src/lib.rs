//! The queue between server and workers.

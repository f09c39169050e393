//! A safe wrapper round one io_uring, its buffer rings and its tokens.

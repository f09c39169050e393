//! The io_uring loop: kick, ring, guard, link, and back.

//! The wireonce command: backend, gateway, check, keygen, doctor, status.
fn main() {}

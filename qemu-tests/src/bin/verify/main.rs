//! `cargo verify`: everything that must hold before a change lands.
fn main() {}

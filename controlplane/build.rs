//! Tells cargo to build again when a migration comes or changes: the binary carries them.
//! Owns:  nothing.
//! Gives: a line for cargo.
//! Never: touches a file.
//! Holds: `sqlx::migrate!` alone notices a changed file and overlooks a new one.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}

//! The program `records` at a small size, so that it works when somebody wants its figures.
//! Owns:  nothing; its records go with its folder.
//! Gives: every question answered on both databases.
//! Never: a figure: a debug build beside other tests has none to give.
//! Holds: what it prints has a line per database and question.

use std::process::Command;

#[test]
fn a_small_run_answers_every_question_on_both_databases() {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/records");
    // A run that was cut may have left something.
    drop(std::fs::remove_dir_all(folder));
    let output = Command::new(env!("CARGO_BIN_EXE_records"))
        .args(["--records", "2000", "--pages", "2", "--folder", folder])
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for database in ["SQLite", "PostgreSQL"] {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(database)).collect();
        // How fast they went in, the head of the table, sixteen questions, what came in beside.
        assert_eq!(lines.len(), 19, "{text}");
        assert!(lines[18].contains("records came in at"), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder).expect("it was made").count(), 0, "it tidies up");
}

//! What failed in a long run of tests, told once more at its end, where it is found.

/// How much of what a failed test printed is told again, from where it panicked.
const LINES: usize = 15;
const CHARS: usize = 400;

/// Reads what test binaries print, a line at a time.
#[derive(Default)]
pub(crate) struct Failures {
    tests: Vec<(String, Vec<String>)>,
    inside: bool,
}

impl Failures {
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.tests.push((name.to_owned(), Vec::new()));
            self.inside = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.inside = false;
        } else if let Some((_, lines)) = self.tests.last_mut().filter(|_| self.inside) {
            lines.push(line.to_owned());
        }
    }

    /// Each failed test with what it said when it failed; nothing where none did.
    pub(crate) fn told(&self) -> String {
        let mut told = String::new();
        for (name, lines) in &self.tests {
            told.push_str(&format!("\n{name} FAILED\n"));
            let from = lines.iter().position(|line| line.contains(" panicked at ")).unwrap_or(0);
            for line in lines[from..].iter().filter(|line| !line.is_empty()).take(LINES) {
                told.extend("    ".chars().chain(line.chars().take(CHARS)).chain(['\n']));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    const RUN: &str = "
running 2 tests
test one ... ok
test two ... FAILED

failures:

---- two stdout ----
read 7 of 8

thread 'two' (12) panicked at tests/two.rs:7:9:
one is missing
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace


failures:
    two

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    fn told(run: &str) -> String {
        let mut failures = Failures::default();
        run.lines().for_each(|line| failures.line(line));
        failures.told()
    }

    #[test]
    fn a_failed_test_is_told_with_why() {
        let told = told(RUN);
        assert!(told.starts_with(
            "\ntwo FAILED\n    thread 'two' (12) panicked at tests/two.rs:7:9:\n    one is missing\n"
        ));
        assert!(!told.contains("test result"), "{told}");
    }

    #[test]
    fn where_none_failed_nothing_is_told() {
        assert_eq!(told("test one ... ok\ntest result: ok. 1 passed\n"), "");
    }
}

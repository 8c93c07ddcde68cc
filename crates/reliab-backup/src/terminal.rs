//! Names on a terminal: none can command it.

/// A name that cannot command a terminal: as it is, or quoted as bash and GNU ls do where it holds control characters
/// or is not UTF-8. What is quoted may be pasted into a shell.
pub(crate) fn quoted(name: &[u8]) -> Vec<u8> {
    if std::str::from_utf8(name).is_ok_and(|text| !text.contains(char::is_control)) {
        return name.to_vec();
    }
    let mut quoted = b"$'".to_vec();
    for chunk in name.utf8_chunks() {
        chunk.valid().chars().for_each(|c| quote(c, &mut quoted));
        octal(chunk.invalid(), &mut quoted);
    }
    quoted.push(b'\'');
    quoted
}

/// The same for a text.
pub(crate) fn quoted_text(text: &str) -> String {
    String::from_utf8_lossy(&quoted(text.as_bytes())).into_owned()
}

/// A word as a shell reads it: as it is, or in quotes.
pub(crate) fn quoted_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if word.contains(char::is_control) {
        return quoted_text(word);
    }
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn quote(c: char, quoted: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).as_bytes();
    match c {
        '\n' => quoted.extend_from_slice(b"\\n"),
        '\r' => quoted.extend_from_slice(b"\\r"),
        '\t' => quoted.extend_from_slice(b"\\t"),
        '\'' | '\\' => quoted.extend_from_slice(&[b'\\', bytes[0]]),
        control if control.is_control() => octal(bytes, quoted),
        _ => quoted.extend_from_slice(bytes),
    }
}

fn octal(bytes: &[u8], quoted: &mut Vec<u8>) {
    bytes.iter().for_each(|byte| quoted.extend_from_slice(format!("\\{byte:03o}").as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_command_a_terminal_are_quoted_as_bash_reads_them() {
        let check = |name: &[u8], expected: &str| {
            assert_eq!(String::from_utf8(quoted(name)).unwrap(), expected);
        };
        check(b"plain name %25.txt", "plain name %25.txt");
        check("größe".as_bytes(), "größe");
        check(b"it's", "it's");
        check(b"a\nb", "$'a\\nb'");
        check(b"\x1b[2J it's \\", "$'\\033[2J it\\'s \\\\'");
        check("c1 \u{9b}2J ü".as_bytes(), "$'c1 \\302\\2332J ü'");
        check(b"\xff\xfe1", "$'\\377\\3761'");
    }

    #[test]
    fn bash_reads_back_what_is_quoted() {
        let name: Vec<u8> = (1..=255).collect();
        let script = [b"printf %s ".as_slice(), &quoted(&name)].concat();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        let output = std::process::Command::new("bash").arg(file.path()).output().unwrap();
        assert_eq!(output.stdout, name);
    }
}

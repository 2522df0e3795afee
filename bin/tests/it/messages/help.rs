//! The help of the command and of each of its commands, found by reading it.

use super::Book;

#[test]
fn help() {
    let mut book = Book::of("help", "What `--help` says, of the command and of all its commands.");
    book.types(&["aspen --version"]);
    let mut commands = vec!["aspen".to_owned()];
    while let Some(command) = commands.pop() {
        let line = format!("{command} --help");
        book.part(&command);
        book.types(&[&line]);
        let help = book.try_out(&line).stdout;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let names = listed
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        let below: Vec<String> = names.map(|name| format!("{command} {name}")).collect();
        commands.extend(below.into_iter().rev());
    }
    book.close();
}

//! How two texts differ, line by line, with a little of what stands around.

/// Lines around a difference that are shown.
const AROUND: usize = 3;

/// The lines of the second that are new (`+`) and those of the first that are gone (`-`).
pub(super) fn diff(kept: &str, seen: &str) -> String {
    let (kept, seen): (Vec<&str>, Vec<&str>) = (kept.lines().collect(), seen.lines().collect());
    // How long the longest common rest is from each pair of places on.
    let mut common = vec![vec![0_u32; seen.len() + 1]; kept.len() + 1];
    for at in (0..kept.len()).rev() {
        for other in (0..seen.len()).rev() {
            common[at][other] = match kept[at] == seen[other] {
                true => common[at + 1][other + 1] + 1,
                false => common[at + 1][other].max(common[at][other + 1]),
            };
        }
    }
    let mut lines = Vec::new();
    let (mut at, mut other) = (0, 0);
    while at < kept.len() || other < seen.len() {
        if at < kept.len() && other < seen.len() && kept[at] == seen[other] {
            lines.push((' ', kept[at]));
            (at, other) = (at + 1, other + 1);
        } else if other == seen.len()
            || at < kept.len() && common[at + 1][other] >= common[at][other + 1]
        {
            lines.push(('-', kept[at]));
            at += 1;
        } else {
            lines.push(('+', seen[other]));
            other += 1;
        }
    }
    let changed: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| line.0 != ' ').map(|(at, _)| at).collect();
    let is_near = |at: usize| changed.iter().any(|change| at.abs_diff(*change) <= AROUND);
    let mut told = String::new();
    for (at, (mark, line)) in lines.iter().enumerate().filter(|(at, _)| is_near(*at)) {
        if at > 0 && !is_near(at - 1) {
            told.push_str("…\n");
        }
        told.push_str(&format!("{mark} {line}\n"));
    }
    told
}

#[test]
fn a_difference_is_shown_with_what_stands_around() {
    let kept = "a\nb\nc\nd\ne\nf\ng\n";
    assert_eq!(diff(kept, kept), "");
    assert_eq!(diff(kept, &kept.replace("f", "F")), "…\n  c\n  d\n  e\n- f\n+ F\n  g\n");
    assert_eq!(diff("", "x\n"), "+ x\n");
}

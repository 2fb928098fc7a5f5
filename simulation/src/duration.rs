//! Stretches of virtual time as people write and read them: `90s`, `1h`, `30d`; "2 min 5 s".

/// Milliseconds of a text such as `250ms`, `90s`, `83.2s`, `15m`, `1h`, `30d` or `1h30m`.
///
/// # Errors
/// A sentence for people when the text is no duration, or is longer than ten thousand years.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no duration: write 250ms, 90s, 15m, 1h or 30d");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(digits.ok_or_else(wrong)?);
        let end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let scale: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = scaled(number, scale).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    (total <= 3_652_500 * 86_400_000)
        .then_some(total)
        .ok_or_else(wrong)
}

/// `number` times `scale`, with at most three digits behind the point.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 3 || part.contains('.') || whole.is_empty() {
        return None;
    }
    let thousandths: u64 = if part.is_empty() {
        0
    } else {
        format!("{part:0<3}").parse().ok()?
    };
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(scale)?
        .checked_add(thousandths * scale / 1_000)
}

/// A stretch of time as [`parse`] reads it.
pub fn flag(ms: u64) -> String {
    for (scale, unit) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ] {
        if ms > 0 && ms.is_multiple_of(scale) {
            return format!("{}{unit}", ms / scale);
        }
    }
    format!("{ms}ms")
}

/// A stretch of time in words, in the two units that matter: "240 ms", "3.2 s", "2 min 5 s", "3 h 10 min", "30 days".
pub fn words(ms: u64) -> String {
    let two = |big: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{big} {one}"),
        _ => format!("{big} {one} {small} {other}"),
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => two(ms / 60_000, "min", ms / 1_000 % 60, "s"),
        3_600_000..86_400_000 => two(ms / 3_600_000, "h", ms / 60_000 % 60, "min"),
        _ => {
            let (days, hours) = (ms / 86_400_000, ms / 3_600_000 % 24);
            two(days, if days == 1 { "day" } else { "days" }, hours, "h")
        }
    }
}

/// A moment since the world began: `00:01:23.200`, with days in front when there are any.
pub fn moment(ms: u64) -> String {
    let (days, h, m) = (ms / 86_400_000, ms / 3_600_000 % 24, ms / 60_000 % 60);
    let day = if days > 0 {
        format!("{days}d ")
    } else {
        String::new()
    };
    format!(
        "{day}{h:02}:{m:02}:{:02}.{:03}",
        ms / 1_000 % 60,
        ms % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("250ms", 250),
            ("90s", 90_000),
            ("83.2s", 83_200),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("0.5h", 1_800_000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
            assert_eq!(parse(&flag(ms)), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in [
            "",
            "90",
            "s",
            "1x",
            "-1s",
            "1.2345s",
            "1..2s",
            "99999999999d",
            "1 s s",
        ] {
            assert!(parse(text).is_err_and(|e| e.contains("90s")), "{text}");
        }
    }

    #[test]
    fn words_name_the_two_units_that_matter() {
        for (ms, text) in [
            (0, "0 ms"),
            (240, "240 ms"),
            (3_000, "3 s"),
            (3_249, "3.2 s"),
            (125_000, "2 min 5 s"),
            (11_400_000, "3 h 10 min"),
            (86_400_000, "1 day"),
            (2_595_600_000, "30 days 1 h"),
        ] {
            assert_eq!(words(ms), text);
        }
        assert_eq!(moment(83_200), "00:01:23.200");
        assert_eq!(moment(2 * 86_400_000 + 1), "2d 00:00:00.001");
    }
}

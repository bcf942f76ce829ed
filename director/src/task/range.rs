//! PURE: which bytes of a task's output a `Range` header asks for (RFC 9110, section 14; one range, as the CLI sends).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    Whole,
    /// 206: the first and the last byte.
    Part {
        first: u64,
        last: u64,
    },
    /// 416: for a reader that asks for more of a growing file, "nothing new".
    Unsatisfiable,
}

/// A header that cannot be understood is ignored, as the RFC demands.
pub(crate) fn slice(range: Option<&str>, total: u64) -> Slice {
    let Some((from, to)) = range.and_then(|text| text.strip_prefix("bytes=")).and_then(|text| text.split_once('-'))
    else {
        return Slice::Whole;
    };
    match (from.parse::<u64>(), to.parse::<u64>()) {
        // A real director answers `bytes=0-` of an empty output with 200 and no body.
        (Ok(0), _) if total == 0 => Slice::Whole,
        (Ok(first), _) if first >= total => Slice::Unsatisfiable,
        (Ok(first), Ok(last)) if last >= first => Slice::Part { first, last: last.min(total - 1) },
        (Ok(first), Err(_)) if to.is_empty() => Slice::Part { first, last: total - 1 },
        (Err(_), Ok(suffix)) if from.is_empty() && suffix > 0 && total > 0 => {
            Slice::Part { first: total.saturating_sub(suffix), last: total - 1 }
        }
        _ => Slice::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_the_rfc_says() {
        let table = [
            (None, 10, Slice::Whole),
            (Some("bytes=0-"), 10, Slice::Part { first: 0, last: 9 }),
            (Some("bytes=4-"), 10, Slice::Part { first: 4, last: 9 }),
            (Some("bytes=4-6"), 10, Slice::Part { first: 4, last: 6 }),
            (Some("bytes=4-600"), 10, Slice::Part { first: 4, last: 9 }),
            (Some("bytes=-3"), 10, Slice::Part { first: 7, last: 9 }),
            (Some("bytes=10-"), 10, Slice::Unsatisfiable),
            (Some("bytes=11-"), 10, Slice::Unsatisfiable),
            (Some("bytes=0-"), 0, Slice::Whole),
            (Some("bytes=1-"), 0, Slice::Unsatisfiable),
            (Some("bytes=6-4"), 10, Slice::Whole),
            (Some("lines=1-2"), 10, Slice::Whole),
            (Some("bytes=a-b"), 10, Slice::Whole),
        ];
        for (header, total, expected) in table {
            assert_eq!(slice(header, total), expected, "{header:?} of {total}");
        }
    }
}

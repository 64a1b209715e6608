//! Who needs whom. Over any table: one whose names or needs make no sense is found out by [`cycle`] and
//! [`unknown`], and leads nowhere else astray.

use super::{Feature, Need, Place};

fn get<'a>(table: &'a [Feature], name: &str) -> Option<&'a Feature> {
    table.iter().find(|feature| feature.name == name)
}

/// What a feature needs, and what that needs, each behind what it needs itself.
pub(super) fn needed<'a>(table: &'a [Feature], name: &str) -> Vec<(&'a Feature, Place)> {
    let mut found = Vec::new();
    if let Some(feature) = get(table, name) {
        descend(table, feature, &mut vec![feature.name], &mut found);
    }
    found
}

fn descend<'a>(
    table: &'a [Feature],
    feature: &Feature,
    path: &mut Vec<&'static str>,
    found: &mut Vec<(&'a Feature, Place)>,
) {
    for Need { name, place } in feature.needs {
        let is_known = found.iter().any(|(known, at)| known.name == *name && at == place);
        if is_known || path.contains(name) {
            continue;
        }
        let Some(needed) = get(table, name) else { continue };
        path.push(name);
        descend(table, needed, path, found);
        path.pop();
        found.push((needed, *place));
    }
}

/// What needs a feature, directly or not, each behind what needs it.
pub(super) fn dependents<'a>(table: &'a [Feature], name: &str) -> Vec<&'a Feature> {
    let mut found = Vec::new();
    ascend(table, name, &mut vec![name], &mut found);
    found
}

fn ascend<'a, 'n>(
    table: &'a [Feature],
    name: &str,
    path: &mut Vec<&'n str>,
    found: &mut Vec<&'a Feature>,
) where
    'a: 'n,
{
    for feature in table.iter().filter(|feature| feature.needs.iter().any(|need| need.name == name))
    {
        let is_known = found.iter().any(|known| known.name == feature.name);
        if is_known || path.contains(&feature.name) {
            continue;
        }
        path.push(feature.name);
        ascend(table, feature.name, path, found);
        path.pop();
        found.push(feature);
    }
}

/// Names along a cycle of needs, the first again at the end; `None` where there is none.
#[cfg(test)]
pub(super) fn cycle(table: &[Feature]) -> Option<Vec<&'static str>> {
    fn walk(
        table: &[Feature],
        feature: &Feature,
        path: &mut Vec<&'static str>,
        done: &mut Vec<&'static str>,
    ) -> Option<Vec<&'static str>> {
        if let Some(at) = path.iter().position(|name| *name == feature.name) {
            return Some(path[at..].iter().copied().chain([feature.name]).collect());
        }
        if done.contains(&feature.name) {
            return None;
        }
        path.push(feature.name);
        let needs = feature.needs.iter().filter_map(|need| get(table, need.name));
        for needed in needs {
            if let Some(found) = walk(table, needed, path, done) {
                return Some(found);
            }
        }
        path.pop();
        done.push(feature.name);
        None
    }
    let mut done = Vec::new();
    table.iter().find_map(|feature| walk(table, feature, &mut Vec::new(), &mut done))
}

/// Needs that no feature is.
#[cfg(test)]
pub(super) fn unknown(table: &[Feature]) -> Vec<&'static str> {
    let needs = table.iter().flat_map(|feature| feature.needs);
    needs.map(|need| need.name).filter(|name| get(table, name).is_none()).collect()
}

//! The plans, one file each. A new one is a module here and a line in [`PLANS`].

mod fault_paths;
mod fragments;
mod frames;
mod invalidation;
mod pressure;
mod q1a;
mod q1b;
mod q1e;
mod q1g;
mod q2a_engine;
mod q2a_guest;
mod q2b_engine;
mod q2b_guest;
mod q2c_engine;
mod q2c_guest;
mod q2d;
mod q3a;
mod q3b;
mod q3c;
mod q3d;
mod q4a;
mod q4b;
mod q5a;
mod q5b;
mod q5c;
mod q5d;
mod q5e;
mod q5f;
mod ways_out;

use super::plan::Plan;

/// All of them, in the order of their questions.
pub const PLANS: &[Plan] = &[
    q1a::PLAN,
    q1b::PLAN,
    q1e::PLAN,
    q1g::PLAN,
    q2a_guest::PLAN,
    q2b_guest::PLAN,
    q2c_guest::PLAN,
    q2a_engine::PLAN,
    q2b_engine::PLAN,
    q2c_engine::PLAN,
    q2d::PLAN,
    q3a::PLAN,
    q3b::PLAN,
    q3c::PLAN,
    q3d::PLAN,
    q4a::PLAN,
    q4b::PLAN,
    q5a::PLAN,
    q5b::PLAN,
    q5c::PLAN,
    q5d::PLAN,
    q5e::PLAN,
    q5f::PLAN,
];

/// The plan for the question `id`, where there is one.
#[must_use]
pub fn plan(id: &str) -> Option<&'static Plan> {
    PLANS.iter().find(|plan| plan.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::plan::Role;
    use crate::claims::question::QUESTIONS;
    use crate::host_limits::HostLimits;
    use crate::names::Variant;
    use crate::units::Size;

    #[test]
    fn plans_follow_the_questions() {
        let ids: Vec<&str> = PLANS.iter().map(|plan| plan.id).collect();
        let known = QUESTIONS.iter().map(|question| question.id);
        let in_order: Vec<&str> = known.filter(|id| ids.contains(id)).collect();
        assert_eq!(ids, in_order);
    }

    #[test]
    fn every_plan_is_an_experiment() {
        let limits = HostLimits {
            cpus: "0-1".parse().expect("a list"),
            memory: Size::from_mib(2048),
        };
        for plan in PLANS {
            let roles = |wanted: fn(Role) -> bool| plan.runs.iter().any(|run| wanted(run.role));
            assert!(
                roles(|role| role == Role::Control),
                "{}: no control",
                plan.id
            );
            let busted = |role| matches!(role, Role::Busted(checkers, _) if !checkers.is_empty());
            assert!(roles(busted), "{}: nothing that must be caught", plan.id);
            for run in plan.runs {
                let named = plan.runs.iter().filter(|other| other.name == run.name);
                assert_eq!(named.count(), 1, "{}: {} twice", plan.id, run.name);
                let experiment = plan
                    .experiment(run, None, &limits)
                    .unwrap_or_else(|error| panic!("{} {}: {error:?}", plan.id, run.name));
                // Marked in the results, so that nobody takes the figures for those of the right form.
                let wrong = experiment.variant != Variant::None;
                let busted = matches!(run.role, Role::Busted(..));
                assert_eq!(wrong, busted, "{} {}", plan.id, run.name);
            }
        }
    }
}

//! The model that is checked: a configuration, and how its states follow each other.

use crate::{
    actions::Action,
    client::Client,
    config::{Budget, Config},
    digest::digest,
    driver::{Driver, Of},
    possible::Possible,
    properties::Reached,
    shelf::Delivery,
    way::Way,
    world::{Kept, World},
};
use ownership::{Placement, store::DirectoryWrite};
use stateright::{Model, Property};
use std::marker::PhantomData;

pub struct Cluster<W> {
    pub config: Config,
    way: PhantomData<fn() -> W>,
}

/// How many steps a world may take to come to rest.
const STEPS: usize = 600;

impl<W: Way> Cluster<W> {
    pub fn new(config: Config) -> Self {
        Self { config, way: PhantomData }
    }

    /// A cluster that runs: the first machine owns all slots and sessions, and every other one that is no
    /// clone is up.
    fn started(&self) -> World<W> {
        let config = &self.config;
        let mut world = World::<W>::new(config);
        let is_first = |at: usize| {
            config.machines[..at].iter().all(|before| before.node != config.machines[at].node)
        };
        let machines: Vec<_> = (0..config.machines.len()).filter(|at| is_first(*at)).collect();
        for &at in &machines {
            world = world.after(config, Action::Start(at));
            world = world.after(config, Action::Register(at, Delivery::Whole));
        }
        world = self.placed(world);
        for &at in &machines {
            world = self.told(world, at);
        }
        for &at in &machines {
            world = world.after(config, Action::Census(at));
        }
        world.budget = Budget { births: config.sessions as u8, ..Budget::default() };
        for session in 0..config.sessions {
            world = world.after(config, Action::Birth(0, session, Delivery::Whole));
        }
        self.cloned(&mut world);
        if config.has_clients {
            for session in 0..config.sessions {
                let mut driver = Driver::new(config, &mut world, 0);
                driver.attach(session);
                driver.done();
                let record = world.history.last(session).expect("it was made");
                world.clients.push(Kept::new(Client::new(session, record)));
            }
        }
        world.budget = config.budget;
        world
    }

    fn placed(&self, mut world: World<W>) -> World<W> {
        let placement = Placement::all_to(world.nodes[0].index);
        let mut driver = Driver::new(&self.config, &mut world, 0);
        let attempt = driver.attempt(Of::Placement, 0);
        let (write, _) = DirectoryWrite::place(None, &placement, attempt).expect("the first");
        assert!(driver.send(write, Delivery::Whole).is_won());
        driver.done();
        world
    }

    /// The machine applies the placement, and says so.
    fn told(&self, world: World<W>, at: usize) -> World<W> {
        let actions = [
            Action::Apply(at),
            Action::Beat(at),
            Action::BeatArrives(at),
            Action::BeatAnswered(at),
        ];
        actions.into_iter().fold(world, |world, action| world.after(&self.config, action))
    }

    /// Clones have the disk of the machine that they are clones of.
    fn cloned(&self, world: &mut World<W>) {
        for at in 1..world.nodes.len() {
            if self.config.machines[at].node == self.config.machines[at - 1].node {
                let mut clone = (*world.nodes[at]).clone();
                clone.disk = world.nodes[at - 1].disk.clone();
                world.nodes[at] = Kept::new(clone);
            }
        }
    }

    /// Whether every session gets where it should be, if nothing more goes wrong and time goes on: whether
    /// what is late arrives at last, or never.
    ///
    /// # Errors
    ///
    /// With the last that has happened, if they do not.
    pub fn comes_to_rest(&self, world: &World<W>) -> Result<(), Vec<Action>> {
        let mut world = world.clone();
        world.budget = Budget::default();
        world.is_ending = true;
        if world.directory.late() > 0 {
            let mut without = world.clone();
            without.directory.lose_late();
            self.ends(without)?;
        }
        self.ends(world)
    }

    fn ends(&self, mut world: World<W>) -> Result<(), Vec<Action>> {
        let clones = self.config.clones();
        let (mut actions, mut done) = (Vec::new(), Vec::new());
        for _ in 0..STEPS {
            if world.directory.late() == 0 && world.is_settled() && world.is_attached() {
                return Ok(());
            }
            for clone in &clones {
                // Somebody finds it, and turns it off.
                world = world.after(&self.config, Action::Reboot(*clone));
            }
            actions.clear();
            Possible::collect(&self.config, &world, &mut actions);
            let before = digest(&world);
            let next = (actions.iter())
                .filter(|action| action.is_progress() && !action.is_of(&clones))
                .map(|action| (*action, world.after(&self.config, *action)))
                .find(|(_, next)| digest(next) != before);
            let tick = || (Action::Tick, world.after(&self.config, Action::Tick));
            let (action, next) = next.unwrap_or_else(tick);
            done.push(action);
            world = next;
        }
        Err(done.split_off(STEPS - 60))
    }
}

impl Config {
    /// The machines that are clones of another one.
    pub fn clones(&self) -> Vec<usize> {
        (1..self.machines.len())
            .filter(|at| self.machines[*at].node == self.machines[at - 1].node)
            .collect()
    }
}

impl<W: Way> Model for Cluster<W> {
    type State = World<W>;
    type Action = Action;

    fn init_states(&self) -> Vec<World<W>> {
        vec![self.started()]
    }

    fn actions(&self, state: &World<W>, actions: &mut Vec<Action>) {
        Possible::collect(&self.config, state, actions);
    }

    fn next_state(&self, state: &World<W>, action: Action) -> Option<World<W>> {
        Some(state.after(&self.config, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("a session is delivered by its owner alone", |_, world: &World<W>| {
                world.has_one_owner()
            }),
            Property::always("one version is one state, with its event", |_, world: &World<W>| {
                world.history.wrong().is_none()
            }),
            Property::always("no session that is served is denied", |_, world: &World<W>| {
                world.is_never_denied()
            }),
            Property::always(
                "no session ends by a false alarm",
                |model: &Self, world: &World<W>| {
                    !model.config.clones().is_empty() || !world.has_contradiction()
                },
            ),
            Property::always("no client is locked out", |_, world: &World<W>| {
                world.is_nobody_locked_out()
            }),
            Property::always("no session is stuck or lost", |model: &Self, world: &World<W>| {
                !digest(world).is_sampled(model.config.sample) || model.comes_to_rest(world).is_ok()
            }),
        ];
        properties.extend(self.config.reaches.iter().map(|what| reaches(*what)));
        properties
    }
}

/// A property for each thing that a model is to reach.
fn reaches<W: Way>(what: Reached) -> Property<Cluster<W>> {
    macro_rules! sometimes {
        ($($what:ident: $name:literal,)+) => {
            match what {
                $(Reached::$what => Property::sometimes($name, |_, world: &World<W>| {
                    world.has_reached(Reached::$what)
                }),)+
            }
        };
    }
    sometimes! {
        HandedOver: "a session is handed over",
        Aborted: "the move of a session is given up",
        TakenOver: "a session is taken over",
        Returned: "a session is back at its node",
        Ended: "a session ends with its node",
        ResumedEpoch: "a process goes on in the epoch of another",
        Cleared: "the move of a slot is complete",
        Born: "a session is made",
        Reattached: "a client is attached from another address",
        Refused: "an older store is refused",
    }
}

//! A cluster in small: a ReplicaSet's controller, kubelets and sidecars around the plan, with all
//! that may come in between.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::*;
use crate::controller::observed::Memory;

/// After how many seconds a pod's sidecar runs.
const RUNS: u64 = 5;

/// After how many seconds a pod is ready. The time between is longer than what the operator reads
/// is old and Kubernetes is slow.
const READY: u64 = 11;

/// What happens besides that time passes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// So many seconds pass.
    Pass(u8),
    /// So many pods are to work.
    Want(u8),
    /// Whether there is work.
    Work(bool),
    /// The operator ends, and another process begins.
    Restart,
    /// Someone deletes a pod.
    Delete(u8),
    /// A pod cannot be reached for so many seconds.
    Unreachable(u8, u8),
    /// A new version is rolled out.
    Roll,
    /// A new version is rolled out that fails all of its tasks.
    RollBad,
    /// The last version that works is rolled out again.
    RollBack,
    /// The API server takes nothing for so many seconds.
    Refuse(u8),
    /// What the operator reads is so many seconds old from now on.
    Lag(u8),
}

/// A pod as it really is.
#[derive(Debug, Clone, Default)]
pub(super) struct Real {
    live: LivePod,
    version: u32,
    made: u64,
    /// It fails all of its tasks.
    bad: bool,
    /// Its handler looks unready while it works.
    single_threaded: bool,
    /// That it is ready, or not any more, does not show yet.
    is_late: bool,
    /// When each of its tasks ends.
    tasks: Vec<u64>,
    /// How many have worked, and how many have failed.
    done: (u64, u64),
    /// When the first that worked ended.
    first_done: Option<u64>,
    cordoned_until: u64,
    /// Since when it has the key that the mark gives it.
    key_since: u64,
    unreachable_until: u64,
}

impl Real {
    pub(super) fn is_marked(&self) -> bool {
        self.live.mark.since.is_some()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.live.terminating
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(super) fn is_cordoned(&self, at: u64) -> bool {
        at < self.cordoned_until
    }

    pub(super) fn is_bad(&self) -> bool {
        self.bad
    }

    /// It has failed enough for its breaker.
    fn is_broken(&self, at: u64) -> bool {
        self.bad && at > self.made + READY
    }

    fn takes_tasks(&self, at: u64) -> bool {
        let fails = self.bad && self.is_broken(at);
        at >= self.made + READY && !self.live.terminating && !self.is_cordoned(at) && !fails
    }
}

/// The whole.
pub(super) struct Cluster {
    rng: Rng,
    pub(super) at: u64,
    pub(super) pods: Vec<Real>,
    /// What the operator read, second by second.
    read: Vec<Vec<LivePod>>,
    lag: usize,
    slow: u8,
    made: u32,
    /// What is wanted, and how many there were.
    version: u32,
    versions: u32,
    /// Those that work.
    good: Vec<u32>,
    /// What was applied: the version, and when its pods count as available.
    applied: (u32, u64),
    /// The Deployment's newest.
    newest: u32,
    /// What each version is to have while the Deployment is paused.
    sets: Option<BTreeMap<u32, usize>>,
    /// No pods were asked for since the last change of the version: there are none to be kept.
    emptied: bool,
    /// Versions whose pods never count as available.
    never: BTreeSet<u32>,
    work: bool,
    refuse_until: u64,
    orders: Vec<(u64, Order)>,
    pub(super) observed: Observed,
    /// Pods that were removed although they worked.
    pub(super) harmed: Vec<String>,
    /// Pods that work and were replaced by ones that do not.
    pub(super) replaced: Vec<String>,
    /// What is wrong with plans.
    pub(super) wrong: Vec<String>,
    keys: u32,
    max_drain: Option<u64>,
    pub(super) want: u32,
    pub(super) plans: u32,
}

impl Cluster {
    pub(super) fn new(seed: u64, want: u32, max_drain: Option<u64>) -> Self {
        let observed = World::new(external(want)).observed;
        let mut cluster = Self {
            rng: Rng::with_seed(seed),
            at: 1000,
            pods: Vec::new(),
            read: Vec::new(),
            lag: 0,
            slow: 0,
            made: 0,
            version: 0,
            versions: 0,
            good: vec![0],
            applied: (0, 10),
            newest: 0,
            sets: None,
            emptied: false,
            never: BTreeSet::new(),
            work: true,
            refuse_until: 0,
            orders: Vec::new(),
            observed,
            harmed: Vec::new(),
            replaced: Vec::new(),
            wrong: Vec::new(),
            keys: 0,
            max_drain,
            want,
            plans: 0,
        };
        cluster.edit();
        cluster
    }

    fn roll_out(&mut self, version: u32) {
        self.version = version;
        self.emptied = false;
        self.edit();
    }

    fn edit(&mut self) {
        let mut patch = external(self.want);
        patch["sidecar"] = json!({"image": format!("sidecar:{}", self.version)});
        if let Some(seconds) = self.max_drain {
            patch["scaling"]["maxDrain"] = json!(format!("{seconds}s"));
        }
        self.observed.worker = Ok(Arc::new(worker(patch)));
        self.observed.generation += 1;
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(seconds) => self.pass(seconds.into()),
            Event::Want(n) => {
                self.want = n.into();
                self.edit();
            }
            Event::Work(on) => self.work = on,
            Event::Restart => {
                self.observed.memory = Memory::default();
                self.observed.told.clear();
                self.orders.clear();
                self.keys += 1;
                self.observed.key_of_cordons = format!("key-{}", self.keys);
            }
            Event::Delete(i) => {
                let there: Vec<usize> = self.staying().collect();
                if let Some(&i) = there.get(usize::from(i)) {
                    self.pods[i].live.terminating = true;
                }
            }
            Event::Unreachable(i, seconds) => {
                let until = self.at + u64::from(seconds);
                if let Some(pod) = self.pods.get_mut(usize::from(i)) {
                    pod.unreachable_until = until;
                }
            }
            Event::Roll | Event::RollBad => {
                self.versions += 1;
                if matches!(event, Event::Roll) {
                    self.good.push(self.versions);
                }
                self.roll_out(self.versions);
            }
            Event::RollBack => {
                self.roll_out(self.good.last().copied().unwrap_or_default());
            }
            Event::Refuse(seconds) => self.refuse_until = self.at + u64::from(seconds),
            Event::Lag(seconds) => self.lag = seconds.into(),
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.at += 1;
            self.live();
            self.controllers();
            self.kubelets();
            self.hear();
            self.read
                .push(self.pods.iter().map(|pod| pod.live.clone()).collect());
            self.operate();
        }
    }

    fn staying(&self) -> impl Iterator<Item = usize> {
        (0..self.pods.len()).filter(|&i| !self.pods[i].live.terminating)
    }

    /// Pods come to be and work.
    fn live(&mut self) {
        let (at, work) = (self.at, self.work);
        for pod in &mut self.pods {
            let age = at - pod.made;
            pod.live.assigned = age >= 1;
            pod.live.pending = age < READY - 1;
            if age >= RUNS {
                pod.live.sidecar = SidecarState::Running;
            }
            let before = pod.tasks.len();
            pod.tasks.retain(|&ends| ends > at);
            pod.done.0 += u64::try_from(before - pod.tasks.len()).unwrap();
            if pod.done.0 > 0 {
                pod.first_done.get_or_insert(at);
            }
            // It fails them at once.
            pod.done.1 += u64::from(pod.is_broken(at));
            while work && pod.takes_tasks(at) && pod.tasks.len() < 2 && self.rng.u8(..) < 90 {
                pod.tasks.push(at + self.rng.u64(1..40));
            }
        }
        // What is being deleted ends what it has, and is gone.
        self.pods
            .retain(|pod| !pod.live.terminating || pod.is_busy());
    }

    /// They probe each second; now and then it takes one more until it shows.
    fn kubelets(&mut self) {
        let at = self.at;
        for pod in &mut self.pods {
            let works = !(pod.is_cordoned(at) && pod.tasks.is_empty());
            let answers = pod.tasks.is_empty() || !pod.single_threaded;
            let ready = at >= pod.made + READY && works && answers && !pod.live.terminating;
            pod.is_late =
                ready != pod.live.ready_since.is_some() && !pod.is_late && self.rng.u8(..) < 80;
            if pod.is_late {
                continue;
            }
            pod.live.ready_since = match pod.live.ready_since {
                Some(since) if ready => Some(since),
                _ => ready.then(|| wall(at)),
            };
        }
    }

    /// The Deployment's controllers; now and then they are slow.
    fn controllers(&mut self) {
        let Some(live) = self.observed.deployment.clone() else {
            return;
        };
        if self.slow < 2 && self.rng.u8(..) < 80 {
            self.slow += 1;
            return;
        }
        self.slow = 0;
        let wanted = usize::try_from(live.wanted).unwrap();
        if live.paused {
            self.scale_paused(wanted);
        } else {
            self.roll(wanted);
        }
        let there: Vec<usize> = self.staying().collect();
        let count = |n: usize| u32::try_from(n).unwrap();
        let updated = there
            .iter()
            .filter(|&&i| self.pods[i].version == self.newest)
            .count();
        let ready = there
            .iter()
            .filter(|&&i| self.pods[i].live.ready_since.is_some())
            .count();
        let newest = self.newest.to_string();
        let live = self.observed.deployment.as_mut().unwrap();
        live.observed_generation = live.generation;
        live.newest = Some(newest);
        (live.replicas, live.updated, live.ready) =
            (count(there.len()), count(updated), count(ready));
    }

    /// Surge by one; an old one goes when a new one is available.
    fn roll(&mut self, wanted: usize) {
        let (current, at) = (self.applied.0, self.at);
        self.newest = current;
        self.sets = None;
        self.never.remove(&current);
        let there: Vec<usize> = self.staying().collect();
        let mut old: Vec<usize> = there
            .iter()
            .copied()
            .filter(|&i| self.pods[i].version != current)
            .collect();
        if old.is_empty() {
            if there.len() > wanted {
                self.remove(there.clone(), there.len() - wanted);
            }
        } else {
            let available = there.iter().filter(|&&i| self.is_available(i, current));
            let available = available.count();
            let keep = wanted.saturating_sub(available);
            // Those that are not available go first.
            old.sort_by_key(|&i| self.is_available(i, self.pods[i].version));
            if old.len() > keep {
                for &i in &old[..old.len() - keep] {
                    // One of a version before that fails, and has never been stopped, may be there
                    // in its place: it is ready, too.
                    let is_for_bad = !self.good.contains(&current) && available > 0;
                    if is_for_bad && self.works(i) && wanted > 0 {
                        self.replaced.push(format!("{at}: {:?}", self.pods[i]));
                    }
                    // Rollouts end pods that work: they end what they have.
                    self.pods[i].live.terminating = true;
                }
            }
        }
        let there = self.staying().count();
        let new = self
            .staying()
            .filter(|&i| self.pods[i].version == current)
            .count();
        let surge = usize::from(there > new);
        for _ in there..wanted + surge {
            if new < wanted {
                self.make(current);
            }
        }
    }

    fn works(&self, i: usize) -> bool {
        let pod = &self.pods[i];
        // What it does must have been heard of.
        let is_heard = pod
            .first_done
            .is_some_and(|first| self.at > first + 2 * TICK);
        !pod.bad && is_heard && self.is_available(i, pod.version)
    }

    /// One that is only busy is ready often enough.
    fn is_available(&self, i: usize, version: u32) -> bool {
        let pod = &self.pods[i];
        let wait = if self.never.contains(&version) {
            u64::MAX
        } else {
            self.applied.1.min(10)
        };
        let since = pod
            .live
            .ready_since
            .map(|since| since.as_second().cast_unsigned());
        let since = since.or(pod.is_busy().then_some(pod.made + READY + 1));
        pod.version == version && since.is_some_and(|since| self.at.saturating_sub(since) >= wait)
    }

    /// What a paused Deployment's controller does (`scale` in its `sync.go`): nothing but that its
    /// `ReplicaSet`s share what is asked for.
    fn scale_paused(&mut self, wanted: usize) {
        let newest = self.newest;
        if self.applied.1 > 10 {
            self.never.insert(newest);
        }
        let mut sets = self.sets.take().unwrap_or_else(|| {
            let mut sets = BTreeMap::new();
            for i in self.staying() {
                *sets.entry(self.pods[i].version).or_default() += 1;
            }
            sets
        });
        sets.retain(|_, n| *n > 0);
        let all: usize = sets.values().sum();
        let available = self.staying().filter(|&i| self.is_available(i, newest));
        let available = available.count();
        if sets.len() < 2 {
            let only = sets.keys().next().copied().unwrap_or(newest);
            sets.insert(only, wanted);
        } else if sets.get(&newest) == Some(&wanted) && available == wanted {
            sets.retain(|version, _| *version == newest);
        } else {
            let allowed = match wanted {
                0 => 0,
                n => n + n.div_ceil(4),
            };
            let shares = sets.values_mut();
            for share in shares {
                // Rounded.
                *share = (2 * *share * allowed + all) / (2 * all);
            }
            let given: usize = sets.values().sum();
            if let Some(largest) = sets.values_mut().max() {
                *largest = (*largest + allowed).saturating_sub(given);
            }
        }
        for version in 0..=self.versions {
            let there = self.staying().filter(|&i| self.pods[i].version == version);
            let there: Vec<usize> = there.collect();
            let to_have = sets.get(&version).copied().unwrap_or_default();
            if there.len() > to_have {
                if version != newest && wanted > 0 && !self.emptied {
                    self.wrong
                        .push(format!("{}: an old pod goes, of {sets:?}", self.at));
                }
                self.remove(there.clone(), there.len() - to_have);
            }
            for _ in there.len()..to_have {
                self.make(version);
            }
        }
        self.sets = Some(sets);
    }

    /// As `ActivePodsWithRanks` has it.
    fn remove(&mut self, mut there: Vec<usize>, n: usize) {
        there.sort_by_key(|&i| {
            let pod = &self.pods[i];
            (
                victims::rank(&pod.live),
                std::cmp::Reverse(pod.made),
                pod.live.name.clone(),
            )
        });
        for &i in &there[..n] {
            let (at, max_drain) = (self.at, self.max_drain);
            let pod = &mut self.pods[i];
            pod.live.terminating = true;
            let since = pod
                .live
                .mark
                .since
                .map(|since| wall(at).duration_since(since).as_secs());
            let overdue = max_drain
                .zip(since)
                .is_some_and(|(max, since)| since >= max.cast_signed());
            if pod.is_busy() && !overdue {
                self.harmed.push(format!("{at}: {pod:?}"));
            }
        }
    }

    fn make(&mut self, version: u32) {
        self.made += 1;
        let live = LivePod {
            name: format!("pod-{}", self.made),
            uid: format!("uid-{}", self.made),
            template: Some(version.to_string()),
            created: Some(wall(self.at)),
            pending: true,
            ..LivePod::default()
        };
        self.pods.push(Real {
            live,
            version,
            made: self.at,
            bad: !self.good.contains(&version),
            // An overdue pod is ready when it is taken: one that looks unready from that moment on,
            // before Kubernetes has moved, goes before it, and nothing spares it.
            single_threaded: self.rng.u8(..) < 80 && self.max_drain.is_none(),
            ..Real::default()
        });
    }

    /// Orders arrive, or do not.
    fn hear(&mut self) {
        let (at, clock) = (self.at, clock(self.at));
        let key = self.observed.key_of_cordons.clone();
        let due: Vec<Order> = self
            .orders
            .iter()
            .filter(|(due, _)| *due <= at)
            .map(|(_, o)| o.clone())
            .collect();
        self.orders.retain(|(due, _)| *due > at);
        for order in due {
            let pod = self.pods.iter_mut().find(|pod| pod.live.uid == order.uid);
            let answer = match pod {
                Some(pod) if at >= pod.unreachable_until => {
                    let has_key = pod.live.mark.key.as_ref() == Some(&key) && at > pod.key_since;
                    if has_key {
                        pod.cordoned_until = match order.action {
                            Action::Cordon => at + 30,
                            Action::Uncordon => 0,
                        };
                        Ok(says(pod, at))
                    } else {
                        Err(Untold::NoKey)
                    }
                }
                _ => Err(Untold::Failed),
            };
            let before = self.observed.told.get(&order.uid);
            let told = Told::after(before, order.action, clock, answer);
            self.observed.told.insert(order.uid, told);
        }
    }

    /// Reads, plans and writes.
    fn operate(&mut self) {
        self.observed.pods = self.read[self.read.len().saturating_sub(self.lag + 1)].clone();
        let staying: BTreeSet<&str> = self.pods.iter().map(|pod| &*pod.live.uid).collect();
        self.observed.pods.retain(|pod| staying.contains(&*pod.uid));
        self.observed.round = self.at.is_multiple_of(TICK).then(|| Round {
            at: clock(self.at),
            queues: BTreeMap::new(),
            pods: self
                .pods
                .iter()
                .filter(|pod| {
                    pod.live.sidecar == SidecarState::Running && self.at >= pod.unreachable_until
                })
                .map(|pod| (pod.live.uid.clone(), says(pod, self.at)))
                .collect(),
            ..Round::default()
        });
        if self.at < self.refuse_until && self.rng.bool() {
            return;
        }
        self.plans += 1;
        let now = Now {
            clock: clock(self.at),
            wall: wall(self.at),
        };
        let plan = plan(&self.observed, now);
        self.check(&plan);
        self.apply(plan);
    }

    fn check(&mut self, plan: &Plan) {
        let Some(asked) = asked(plan) else { return };
        let before = self
            .observed
            .deployment
            .as_ref()
            .map_or(0, |live| live.wanted);
        let busy = self.staying().filter(|&i| self.pods[i].is_busy()).count();
        if self.max_drain.is_none() && asked < before && usize::try_from(asked).unwrap() < busy {
            self.wrong
                .push(format!("{}: {asked} asked, {busy} busy", self.at));
        }
    }

    fn apply(&mut self, plan: Plan) {
        let (at, clock) = (self.at, clock(self.at));
        let mut memory = plan.memory;
        let (back, away): (Vec<Order>, Vec<Order>) = plan
            .orders
            .into_iter()
            .partition(|order| order.action == Action::Uncordon);
        let mut send = |orders: Vec<Order>, rng: &mut Rng| {
            for order in orders {
                // Each pod is told one thing at a time, and of the rest the last.
                self.orders.retain(|(_, other)| other.uid != order.uid);
                self.orders.push((at + rng.u64(0..3), order));
            }
        };
        send(back, &mut self.rng);
        let mut is_refused = false;
        for mark in plan.marks {
            is_refused |= at < self.refuse_until && self.rng.bool();
            let pod = self.pods.iter_mut().find(|pod| pod.live.uid == mark.uid);
            if let Some(pod) = pod.filter(|_| !is_refused) {
                if pod.live.mark.key.as_ref() != Some(&mark.key) {
                    pod.key_since = at;
                }
                pod.live.mark = LiveMark {
                    since: mark.since,
                    labelled: mark.since.is_some(),
                    cost: mark.since.map_or(0, |_| mark.cost),
                    key: Some(mark.key),
                };
                let marked = Marked {
                    since: mark.since,
                    cost: mark.cost,
                    at: clock,
                };
                memory.leaving.marked.insert(mark.uid, marked);
            }
        }
        if !is_refused {
            send(away, &mut self.rng);
        }
        // Or it is done, and only the answer is lost.
        let is_lost = !is_refused && at < self.refuse_until && self.rng.bool();
        is_refused |= at < self.refuse_until;
        if let Some(object) = plan.deployment.filter(|_| !is_refused || is_lost) {
            let live = self.observed.deployment.get_or_insert_default();
            live.uid = "d".to_owned();
            live.owner = Some("w".to_owned());
            live.take(&object);
            let spec = &object["spec"];
            self.emptied |= spec["replicas"] == 0;
            let sidecar = &spec["template"]["spec"]["initContainers"][0];
            let version = sidecar["image"].as_str().unwrap().strip_prefix("sidecar:");
            self.applied = (
                version.unwrap().parse().unwrap(),
                spec["minReadySeconds"].as_u64().unwrap(),
            );
            if !is_lost {
                memory.deployment.applied = Some(Applied {
                    object,
                    uid: live.uid.clone(),
                    generation: live.generation,
                });
            }
        }
        self.observed.status = plan.status;
        self.observed.memory = memory;
    }

    /// Nothing happens for long enough, and nothing is left to do.
    pub(super) fn settle(&mut self) {
        self.lag = 0;
        self.refuse_until = 0;
        for pod in &mut self.pods {
            pod.unreachable_until = 0;
        }
        self.pass(400);
    }

    pub(super) fn names(&self, those: impl Fn(&Real) -> bool) -> BTreeSet<String> {
        let those = self.pods.iter().filter(|pod| those(pod));
        those.map(|pod| pod.live.name.clone()).collect()
    }
}

fn clock(at: u64) -> Instant {
    Instant::at(Duration::from_secs(at))
}

fn wall(at: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(at)
}

fn says(pod: &Real, at: u64) -> PodReading {
    let in_flight = u32::try_from(pod.tasks.len()).unwrap();
    let task = TaskReading {
        in_flight,
        broken: Some(pod.is_broken(at)),
        worked: pod.done.0,
        failed: pod.done.1,
        ..TaskReading::default()
    };
    PodReading {
        at: clock(at),
        in_flight,
        cordoned: pod.is_cordoned(at),
        tasks: [(queue(), task)].into(),
        ..PodReading::default()
    }
}

// Rust's slotmap, offered to the C++ benchmarks as whole loops: one call walks many elements, so that the border
// between the languages costs nothing that is measured. The loops are those of `side` in sides.hpp, in that order.
//
// A key is eight bytes. C++ keeps them in arrays of 64-bit words and never looks inside; here they are slotmap's own
// keys, in its own layout, so that turning one into the other costs nothing either.
//
// Needs Rust 1.56.
use slotmap::{DefaultKey, SecondaryMap, SlotMap};
use std::mem::{size_of, transmute};
use std::slice::{from_raw_parts, from_raw_parts_mut};

type Value<const N: usize> = [u64; N];
type Map<const N: usize> = SlotMap<DefaultKey, Value<N>>;
type Second<const N: usize> = SecondaryMap<DefaultKey, Value<N>>;

const _: () = assert!(size_of::<DefaultKey>() == size_of::<u64>());

/// The twin of `slotmap_loops` in slotmap_side.hpp.
#[repr(C)]
pub struct Loops {
    new: extern "C" fn(usize) -> *mut u8,
    drop: unsafe extern "C" fn(*mut u8),
    insert: unsafe extern "C" fn(*mut u8, u64, *mut u64, usize),
    get: unsafe extern "C" fn(*const u8, *const u64, usize) -> u64,
    find: unsafe extern "C" fn(*const u8, *const u64, usize, *mut *const u8) -> usize,
    link: unsafe extern "C" fn(*mut u8, *const u64, usize),
    follow: unsafe extern "C" fn(*const u8, u64, usize) -> u64,
    erase: unsafe extern "C" fn(*mut u8, *const u64, usize) -> usize,
    churn: unsafe extern "C" fn(*mut u8, *mut u64, usize),
    walk: unsafe extern "C" fn(*const u8) -> u64,
    tiny: extern "C" fn(usize, usize),
    second_new: extern "C" fn(usize) -> *mut u8,
    second_drop: unsafe extern "C" fn(*mut u8),
    second_insert: unsafe extern "C" fn(*mut u8, *const u64, usize),
    second_get: unsafe extern "C" fn(*const u8, *const u64, usize) -> u64,
    second_join: unsafe extern "C" fn(*const u8, *const u8) -> u64,
}

const fn loops<const N: usize>() -> Loops {
    Loops {
        new: new::<N>,
        drop: drop_map::<N>,
        insert: insert::<N>,
        get: get::<N>,
        find: find::<N>,
        link: link::<N>,
        follow: follow::<N>,
        erase: erase::<N>,
        churn: churn::<N>,
        walk: walk::<N>,
        tiny: tiny::<N>,
        second_new: second_new::<N>,
        second_drop: second_drop::<N>,
        second_insert: second_insert::<N>,
        second_get: second_get::<N>,
        second_join: second_join::<N>,
    }
}

static OF_8_BYTES: Loops = loops::<1>();
static OF_64_BYTES: Loops = loops::<8>();

/// The loops over a map of values of `bytes` bytes; null where there are none.
#[no_mangle]
pub extern "C" fn slotmap_loops_of(bytes: usize) -> *const Loops {
    match bytes {
        8 => &OF_8_BYTES,
        64 => &OF_64_BYTES,
        _ => std::ptr::null(),
    }
}

unsafe fn keys<'a>(at: *const u64, n: usize) -> &'a [DefaultKey] {
    from_raw_parts(at as *const DefaultKey, n)
}
unsafe fn keys_mut<'a>(at: *mut u64, n: usize) -> &'a mut [DefaultKey] {
    from_raw_parts_mut(at as *mut DefaultKey, n)
}

extern "C" fn new<const N: usize>(reserve: usize) -> *mut u8 {
    let map: Map<N> = if reserve == 0 { SlotMap::new() } else { SlotMap::with_capacity(reserve) };
    Box::into_raw(Box::new(map)) as *mut u8
}
unsafe extern "C" fn drop_map<const N: usize>(map: *mut u8) {
    drop(Box::from_raw(map as *mut Map<N>));
}
unsafe extern "C" fn insert<const N: usize>(map: *mut u8, first: u64, out: *mut u64, n: usize) {
    let map = &mut *(map as *mut Map<N>);
    let mut i = first;
    for key in keys_mut(out, n) {
        *key = map.insert([i; N]);
        i += 1;
    }
}
unsafe extern "C" fn get<const N: usize>(map: *const u8, at: *const u64, n: usize) -> u64 {
    let map = &*(map as *const Map<N>);
    let mut sum = 0u64;
    for key in keys(at, n) {
        if let Some(v) = map.get(*key) {
            sum = sum.wrapping_add(v[0]);
        }
    }
    sum
}
unsafe extern "C" fn find<const N: usize>(map: *const u8, at: *const u64, n: usize, out: *mut *const u8) -> usize {
    let map = &*(map as *const Map<N>);
    let found = from_raw_parts_mut(out as *mut Option<&Value<N>>, n);
    let mut live = 0;
    for (key, found) in keys(at, n).iter().zip(found) {
        *found = map.get(*key);
        live += found.is_some() as usize;
    }
    live
}
unsafe extern "C" fn link<const N: usize>(map: *mut u8, at: *const u64, n: usize) {
    let map = &mut *(map as *mut Map<N>);
    let keys = keys(at, n);
    for i in 0..n {
        let next = keys[if i + 1 == n { 0 } else { i + 1 }];
        map[keys[i]][0] = transmute::<DefaultKey, u64>(next);
    }
}
unsafe extern "C" fn follow<const N: usize>(map: *const u8, first: u64, steps: usize) -> u64 {
    let map = &*(map as *const Map<N>);
    let mut key = first;
    for _ in 0..steps {
        match map.get(transmute::<u64, DefaultKey>(key)) {
            Some(v) => key = v[0],
            None => return 0,
        }
    }
    key
}
unsafe extern "C" fn erase<const N: usize>(map: *mut u8, at: *const u64, n: usize) -> usize {
    let map = &mut *(map as *mut Map<N>);
    let mut erased = 0;
    for key in keys(at, n) {
        erased += map.remove(*key).is_some() as usize;
    }
    erased
}
unsafe extern "C" fn churn<const N: usize>(map: *mut u8, at: *mut u64, n: usize) {
    let map = &mut *(map as *mut Map<N>);
    for (i, key) in keys_mut(at, n).iter_mut().enumerate() {
        map.remove(*key);
        *key = map.insert([i as u64; N]);
    }
}
unsafe extern "C" fn walk<const N: usize>(map: *const u8) -> u64 {
    let map = &*(map as *const Map<N>);
    let mut sum = 0u64;
    for v in map.values() {
        sum = sum.wrapping_add(v[0]);
    }
    sum
}
extern "C" fn tiny<const N: usize>(maps: usize, n: usize) {
    for _ in 0..maps {
        let mut map: Map<N> = SlotMap::new();
        for i in 0..n {
            let key = map.insert([i as u64; N]);
            // A place that must be written: keeps the map from being optimised away (black_box is newer than we ask).
            let mut sink = key;
            unsafe { std::ptr::write_volatile(&mut sink, key) };
        }
    }
}

extern "C" fn second_new<const N: usize>(reserve: usize) -> *mut u8 {
    let map: Second<N> = if reserve == 0 { SecondaryMap::new() } else { SecondaryMap::with_capacity(reserve) };
    Box::into_raw(Box::new(map)) as *mut u8
}
unsafe extern "C" fn second_drop<const N: usize>(map: *mut u8) {
    drop(Box::from_raw(map as *mut Second<N>));
}
unsafe extern "C" fn second_insert<const N: usize>(map: *mut u8, at: *const u64, n: usize) {
    let map = &mut *(map as *mut Second<N>);
    for (i, key) in keys(at, n).iter().enumerate() {
        map.insert(*key, [i as u64; N]);
    }
}
unsafe extern "C" fn second_get<const N: usize>(map: *const u8, at: *const u64, n: usize) -> u64 {
    let map = &*(map as *const Second<N>);
    let mut sum = 0u64;
    for key in keys(at, n) {
        if let Some(v) = map.get(*key) {
            sum = sum.wrapping_add(v[0]);
        }
    }
    sum
}
unsafe extern "C" fn second_join<const N: usize>(map: *const u8, second: *const u8) -> u64 {
    let map = &*(map as *const Map<N>);
    let second = &*(second as *const Second<N>);
    let mut sum = 0u64;
    for (key, v) in map.iter() {
        if let Some(other) = second.get(key) {
            sum = sum.wrapping_add(v[0]).wrapping_add(other[0]);
        }
    }
    sum
}

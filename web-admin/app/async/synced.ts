/**
 * A value that is loaded and changed at once; pure. A change that comes while a load runs is made
 * again on what the load brings, because nobody knows which of the two the server did first.
 */

export type Change<T> = (data: T) => T

/** Changes kept during one load; past that it is cheaper to load again. */
export const MAX_KEPT = 1_000

export interface Synced<T> {
  readonly data: T | null
  readonly isLoading: boolean
  /** Changes since the running load began. */
  readonly since: readonly Change<T>[]
  /** Too many changes came: what is loaded now does not count, load once more. */
  readonly isOverrun: boolean
}

export function empty<T>(): Synced<T> {
  return { data: null, isLoading: false, since: [], isOverrun: false }
}

export function begun<T>(synced: Synced<T>): Synced<T> {
  return { ...synced, isLoading: true, since: [], isOverrun: false }
}

export function loaded<T>(synced: Synced<T>, data: T): Synced<T> {
  const { since, isOverrun } = synced
  return { data: since.reduce((now, change) => change(now), data), isLoading: false, since: [], isOverrun }
}

export function failed<T>(synced: Synced<T>): Synced<T> {
  return { ...synced, isLoading: false, since: [], isOverrun: false }
}

export function changed<T>(synced: Synced<T>, change: Change<T>): Synced<T> {
  const data = synced.data === null ? null : change(synced.data)
  if (!synced.isLoading) return { ...synced, data }
  if (synced.since.length >= MAX_KEPT) return { ...synced, data, isOverrun: true }
  return { ...synced, data, since: [...synced.since, change] }
}

/**
 * Keeps the place in the stream; pure. Numbers that are left out belong to entries that this person
 * may not see, so a gap says nothing; what is not behind our place was told before.
 */

import type { Frame, Position, StreamEvent } from './frames'

/** What a frame means: a change to make, or that everything must be loaded again. */
export type Heard = { kind: 'event'; event: StreamEvent } | { kind: 'reload' } | null

export interface Place {
  /** Null until the stream has said where it is. */
  readonly at: Position | null
  readonly heard: Heard
}

export function follow(at: Position | null, frame: Frame): Place {
  switch (frame.type) {
    case 'ready':
      // A stream that resumes says our own place; any other place means that we missed something.
      return at !== null && compare(at, frame) === 0
        ? { at, heard: null }
        : { at: placeOf(frame), heard: { kind: 'reload' } }
    case 'reset':
      return { at: placeOf(frame), heard: { kind: 'reload' } }
    case 'event':
      if (at === null || compare(frame, at) <= 0) return { at, heard: null }
      // Another epoch without a reset: whatever lies between was not told.
      return frame.epoch === at.epoch
        ? { at: placeOf(frame), heard: { kind: 'event', event: frame.event } }
        : { at: placeOf(frame), heard: { kind: 'reload' } }
    default:
      return { at, heard: null }
  }
}

function compare(one: Position, other: Position): number {
  return one.epoch - other.epoch || one.seq - other.seq
}

function placeOf({ epoch, seq }: Position): Position {
  return { epoch, seq }
}

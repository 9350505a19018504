/** The frames of the stream, as docs/realtime.md has them; what cannot be read is no frame. */

import type { EventType, NoteType } from './eventTypes'

export interface Position {
  epoch: number
  seq: number
}

export interface StreamEvent {
  type: EventType
  data: Record<string, unknown>
}

/** Somebody is here, looks or types; forgotten after `ttl_s`, taken back by an empty state. */
export interface PersonNote {
  type: Exclude<NoteType, 'answering'>
  data: { member_id: string; name: string; state: string; conversation_id: string | null; ttl_s: number }
}

/** What a model has said so far of its answer to the messages up to a number. */
export interface AnsweringNote {
  type: 'answering'
  data: { conversation_id: string; through_number: number; text: string; ttl_s: number }
}

export type Note = PersonNote | AnsweringNote

export type Frame =
  | ({ type: 'ready'; member_id: string; expires_at: number } & Position)
  | ({ type: 'event'; event: StreamEvent } & Position)
  | ({ type: 'reset' } & Position)
  | { type: 'note'; event: Note }
  | { type: 'ack'; id: string; data: unknown }
  | { type: 'error'; id: string | null; status: number; code: string }
  | { type: 'renewed'; expires_at: number }

const KNOWN = new Set(['ready', 'event', 'reset', 'note', 'ack', 'error', 'renewed'])
const PLACED = new Set(['ready', 'event', 'reset'])

export function parseFrame(text: unknown): Frame | null {
  if (typeof text !== 'string') return null
  try {
    const frame = JSON.parse(text) as Partial<Position> & { type?: string; event?: { data?: unknown } }
    if (!KNOWN.has(frame.type ?? '')) return null
    if (PLACED.has(frame.type ?? '') && !(isNumber(frame.epoch) && isNumber(frame.seq))) return null
    if ((frame.type === 'event' || frame.type === 'note') && !frame.event?.data) return null
    return frame as Frame
  } catch {
    return null
  }
}

function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value)
}

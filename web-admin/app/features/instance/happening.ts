/** What a line of the timeline says, where it is more than its type. */

import type { StreamEvent } from '../../realtime/frames'
import type { Happening } from './api'

/** The two phases of "pending → running". */
export function phasesIn(message: string): [from: string, to: string] | null {
  const [, from, to] = /^(\w+) → (\w+)$/.exec(message) ?? []
  return from && to ? [from, to] : null
}

/** Who answers in the conversation from then on; null where a line is about something else. */
export function ownerIn({ type, data }: Happening): string | null {
  return type === 'conversation.owner' && typeof data.owner === 'string' ? data.owner : null
}

/** A text of the line's data, such as a channel's state; empty where there is none. */
export function told({ data }: Happening, name: string): string {
  const value = data[name]
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

/** Whether the stream told of something that the timeline has: of talks, beginnings and changes of hands. */
export function isInTimeline({ type, data }: StreamEvent, instanceId: string): boolean {
  if (type === 'conversation.owner_changed') return true
  if (type === 'message.created') return data.number === 1
  return data.instance_id === undefined || data.instance_id === instanceId
}

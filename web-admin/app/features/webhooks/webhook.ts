/** What an endpoint is called, how it does, and what its messages came to; pure. */

import type { Tone } from '../../ui/tone'
import type { EventKind, MessageState, Webhook } from './api'

/** What people know it by: what they wrote, else where it leads. */
export function nameOf({ description, url }: Pick<Webhook, 'description' | 'url'>): string {
  return description || hostOf(url)
}

export function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url
}

export type Condition = 'enabled' | 'troubled' | 'disabled'

/** One that is called but takes nothing is in trouble before it is switched off. */
export function conditionOf({ state, failing_since: failingSince }: Webhook): Condition {
  if (state === 'disabled') return 'disabled'
  return failingSince === null ? 'enabled' : 'troubled'
}

export const CONDITION_TONES: Record<Condition, Tone> = { enabled: 'good', troubled: 'warning', disabled: 'bad' }
export const MESSAGE_TONES: Record<MessageState, Tone> = { pending: 'busy', sent: 'good', dead: 'bad' }

/** Events by what they are about, in the order of the server. */
export function byArea(kinds: readonly EventKind[]): { area: string; kinds: EventKind[] }[] {
  const areas = new Map<string, EventKind[]>()
  for (const kind of kinds) {
    const area = kind.name.split('.')[0] ?? ''
    areas.set(area, [...(areas.get(area) ?? []), kind])
  }
  return [...areas].map(([area, ofArea]) => ({ area, kinds: ofArea }))
}

/** An https address, so that a typing error is said before the server is asked. */
export function isAddress(url: string): boolean {
  return URL.canParse(url.trim()) && ['https:', 'http:'].includes(new URL(url.trim()).protocol)
}

/** The body as people read it; what is no JSON as it is. */
export function written(body: string): string {
  try {
    return JSON.stringify(JSON.parse(body), null, 2)
  } catch {
    return body
  }
}

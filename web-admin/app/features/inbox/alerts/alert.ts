/** What a member is told of though they look elsewhere; pure, but for what it remembers. */

import type { StreamEvent } from '../../../realtime/frames'

export interface Alert {
  readonly kind: 'assigned' | 'waiting' | 'said'
  readonly conversationId: string
}

/** Take-overs by hand on this page, of which nobody need be told. */
const takenHere = new Set<string>()

export function takesHere(conversationId: string): void {
  takenHere.add(conversationId)
}

/** It was not to be. */
export function takesNot(conversationId: string): void {
  takenHere.delete(conversationId)
}

/** Follows which conversations are the member's own, and says what of an event is worth an alert. */
export class Watch {
  readonly #mine: Set<string>

  constructor(
    private readonly memberId: string,
    mine: readonly string[],
  ) {
    this.#mine = new Set(mine)
  }

  hear({ type, data }: StreamEvent): Alert | null {
    const conversationId = String(data.conversation_id)
    if (type === 'conversation.owner_changed') return this.#owned(conversationId, data)
    const { kind } = data.sender as { kind: string }
    return kind === 'contact' && this.#mine.has(conversationId) ? { kind: 'said', conversationId } : null
  }

  #owned(conversationId: string, data: Record<string, unknown>): Alert | null {
    const wasMine = this.#mine.delete(conversationId)
    if (data.owner === 'waiting') return { kind: 'waiting', conversationId }
    if (data.owner !== 'human' || data.owner_member_id !== this.memberId) return null
    this.#mine.add(conversationId)
    return takenHere.delete(conversationId) || wasMine ? null : { kind: 'assigned', conversationId }
  }
}

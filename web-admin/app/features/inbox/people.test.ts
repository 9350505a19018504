import { describe, expect, it } from 'vitest'
import type { PersonNote } from '../../realtime/frames'
import { namesAt, noted } from './people'
import type { Seen } from './people'

function note(type: PersonNote['type'], member: string, state = 'on', conversation: string | null = 'c'): PersonNote {
  return { type, data: { member_id: member, name: member, state, conversation_id: conversation, ttl_s: 6 } }
}

function after(...notes: PersonNote[]): readonly Seen[] {
  return notes.reduce<readonly Seen[]>((seen, one) => noted(seen, one, 0), [])
}

describe('people at a conversation', () => {
  it('are named once, by what they do; not oneself, not who is elsewhere', () => {
    const seen = after(
      note('viewing', 'Li'),
      note('typing', 'Li'),
      note('viewing', 'Wang'),
      note('viewing', 'me'),
      note('viewing', 'Zhao', 'on', 'd'),
      note('presence', 'Sun', 'online'),
    )
    expect(namesAt(seen, 'c', 'me', 1)).toEqual({ typing: ['Li'], viewing: ['Wang'] })
  })

  it('leave when they say so, and when nobody repeats it', () => {
    const seen = after(note('viewing', 'Li'), note('viewing', 'Wang'), note('viewing', 'Li', ''))
    expect(namesAt(seen, 'c', 'me', 5_999).viewing).toEqual(['Wang'])
    expect(namesAt(seen, 'c', 'me', 6_000).viewing).toEqual([])
  })

  it('are where they looked last', () => {
    const seen = after(note('viewing', 'Li', 'on', 'd'), note('viewing', 'Li', 'on', 'c'))
    expect(seen).toHaveLength(1)
    expect(namesAt(seen, 'd', null, 1).viewing).toEqual([])
  })

  it('do not pile up', () => {
    let seen: readonly Seen[] = []
    for (let n = 0; n < 50; n += 1) seen = noted(seen, note('typing', `m${n}`), n * 10_000)
    expect(seen).toHaveLength(1)
  })
})

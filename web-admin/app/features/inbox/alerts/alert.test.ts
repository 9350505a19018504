import { describe, expect, it } from 'vitest'
import type { StreamEvent } from '../../../realtime/frames'
import { takesHere, takesNot, Watch } from './alert'

const owned = (conversation_id: string, owner: string, owner_member_id: string | null = null): StreamEvent => ({
  type: 'conversation.owner_changed',
  data: { conversation_id, owner, owner_member_id },
})
const said = (conversation_id: string, kind: string): StreamEvent => ({
  type: 'message.created',
  data: { conversation_id, sender: { kind, name: null } },
})

describe('Watch', () => {
  const kinds = (mine: string[], ...events: StreamEvent[]) => {
    const watch = new Watch('me', mine)
    return events.map((event) => watch.hear(event)?.kind ?? null)
  }

  it('tells of what is given to the member, and of nothing that others get', () => {
    expect(kinds([], owned('a', 'human', 'me'), owned('b', 'human', 'other'), owned('c', 'bot'))).toEqual([
      'assigned',
      null,
      null,
    ])
  })

  it('tells of who waits', () => {
    expect(kinds([], owned('a', 'waiting'))).toEqual(['waiting'])
  })

  it('tells of what customers say to the member alone, for as long as it is theirs', () => {
    const events = [said('a', 'contact'), said('a', 'human'), said('b', 'contact'), owned('a', 'closed'), said('a', 'contact')]
    expect(kinds(['a'], ...events)).toEqual(['said', null, null, null, null])
    expect(kinds([], owned('a', 'human', 'me'), said('a', 'contact'))).toEqual(['assigned', 'said'])
  })

  it('tells nothing of what the member took here, once', () => {
    takesHere('a')
    expect(kinds([], owned('a', 'human', 'me'), owned('a', 'bot'), owned('a', 'human', 'me'))).toEqual([null, null, 'assigned'])
    takesHere('b')
    takesNot('b')
    expect(kinds([], owned('b', 'human', 'me'))).toEqual(['assigned'])
  })
})

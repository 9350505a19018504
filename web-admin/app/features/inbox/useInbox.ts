/** The conversations of a view, kept up to date. */

import { computed, onMounted, watch } from 'vue'
import type { Conversation } from '../../api/types'
import { useChanges } from '../../async/changes'
import { usePages } from '../../async/pages'
import type { ResourceState } from '../../async/resource'
import { useEvents } from '../../realtime/events'
import type { EventType } from '../../realtime/eventTypes'
import type { StreamEvent } from '../../realtime/frames'
import { signedIn } from '../../signedIn'
import { listConversations } from './api'
import type { Tag } from './desk'
import { belongs, fits, inOrder, withOwner, withSeen, withTag } from './views'
import type { Filter, View } from './views'

export function useInbox(view: () => View, filter: () => Filter, tags: () => readonly Tag[]) {
  const pages = usePages((cursor, signal) => listConversations(view(), filter(), cursor, signal))
  const memberId = computed(() => signedIn.me.value?.member_id ?? null)
  const conversations = computed(() => {
    const items = pages.data.value?.items ?? []
    const shown = items.filter((one) => belongs(one, view(), memberId.value) && fits(one, filter()))
    return inOrder(shown, filter().order)
  })
  const hasMore = computed(() => Boolean(pages.data.value?.next))
  const state = computed<ResourceState>(() =>
    pages.state.value === 'ready' && conversations.value.length === 0 && !hasMore.value ? 'empty' : pages.state.value,
  )
  const isOwn = ({ type, data }: StreamEvent) => type !== 'conversation.seen' || data.member_id === memberId.value

  const CHANGES = {
    'conversation.owner_changed': withOwner,
    'conversation.seen': withSeen,
    'conversation.tags_changed': (one: Conversation, change: Parameters<typeof withTag>[1]) => withTag(one, change, tags()),
  }

  useEvents(Object.keys(CHANGES) as EventType[], (event) => {
    if (!isOwn(event)) return
    const change = CHANGES[event.type as keyof typeof CHANGES]
    pages.patch((page) => ({ ...page, items: page.items.map((one) => change(one, event.data as never)) }))
  })
  // What comes into the view, or says something new, is asked for.
  useChanges(
    [
      'message.created',
      'conversation.owner_changed',
      'conversation.seen',
      'conversation.tags_changed',
      'contact.changed',
      'contact.erased',
      'blacklist.changed',
      'tag.changed',
      'note.changed',
    ],
    pages.refresh,
    isOwn,
  )
  watch([view, filter], pages.reload)
  onMounted(pages.reload)

  return { ...pages, state, conversations, hasMore }
}

/** The conversations of a view, kept up to date. */

import { computed, onMounted, watch } from 'vue'
import { useChanges } from '../../async/changes'
import { usePages } from '../../async/pages'
import type { ResourceState } from '../../async/resource'
import { useEvents } from '../../realtime/events'
import type { StreamEvent } from '../../realtime/frames'
import { signedIn } from '../../signedIn'
import { listConversations } from './api'
import { belongs, fits, inOrder, withOwner, withSeen } from './views'
import type { Filter, View } from './views'

export function useInbox(view: () => View, filter: () => Filter) {
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

  useEvents(['conversation.owner_changed', 'conversation.seen'], (event) => {
    if (!isOwn(event)) return
    const { type, data } = event as StreamEvent & { data: never }
    const change = type === 'conversation.seen' ? withSeen : withOwner
    pages.patch((page) => ({ ...page, items: page.items.map((one) => change(one, data)) }))
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

/** The conversations of a view, kept up to date. */

import { computed, onMounted, watch } from 'vue'
import { useChanges } from '../../async/changes'
import { usePages } from '../../async/pages'
import type { ResourceState } from '../../async/resource'
import { useEvents } from '../../realtime/events'
import { signedIn } from '../../signedIn'
import { listConversations } from './api'
import { belongs, inOrder, OWNER_OF, withOwner } from './views'
import type { View } from './views'

export function useInbox(view: () => View) {
  const pages = usePages((cursor, signal) => listConversations(OWNER_OF[view()], cursor, signal))
  const memberId = computed(() => signedIn.me.value?.member_id ?? null)
  const conversations = computed(() => {
    const items = pages.data.value?.items ?? []
    return inOrder(items.filter((one) => belongs(one, view(), memberId.value)), view())
  })
  const hasMore = computed(() => Boolean(pages.data.value?.next))
  const state = computed<ResourceState>(() =>
    pages.state.value === 'ready' && conversations.value.length === 0 && !hasMore.value ? 'empty' : pages.state.value,
  )

  useEvents(['conversation.owner_changed'], ({ data }) => {
    const change = data as unknown as Parameters<typeof withOwner>[1]
    pages.patch((page) => ({ ...page, items: page.items.map((one) => withOwner(one, change)) }))
  })
  // What comes into the view, or says something new, is asked for.
  useChanges(['message.created', 'conversation.owner_changed', 'contact.erased', 'blacklist.changed'], pages.refresh)
  watch(view, pages.reload)
  onMounted(pages.reload)

  return { ...pages, state, conversations, hasMore }
}

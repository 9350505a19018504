/** Tells a member who looks elsewhere what is theirs now, who waits, and what their customers say. */

import { onScopeDispose, watch } from 'vue'
import { useI18n } from 'vue-i18n'
import { useRouter } from 'vue-router'
import { ApiError } from '../../../api/problem'
import { useEvents, useReload } from '../../../realtime/events'
import { signedIn } from '../../../signedIn'
import { listConversations } from '../api'
import { Watch } from './alert'
import type { Alert } from './alert'
import { chime } from './chime'
import { choice } from './choice'
import { useTurn } from './turn'

/** Many alerts at once sound once. */
const QUIET_MS = 3_000
const NEWEST = { order: 'newest', tagId: '', channelId: '' } as const

function isLookedAt(): boolean {
  return document.visibilityState === 'visible' && document.hasFocus()
}

export function useAlerts(): void {
  const { t } = useI18n()
  const router = useRouter()
  const isOurTurn = useTurn((navigator as Partial<Navigator>).locks)
  const asking = new AbortController()
  let watching: Watch | null = null
  let soundedAt = -Infinity

  /** What they have already, to know who speaks to them. */
  async function begin(): Promise<void> {
    const memberId = signedIn.me.value?.member_id
    if (choice.value !== 'on' || !memberId) {
      watching = null
      return
    }
    try {
      const { items } = await listConversations('mine', NEWEST, null, asking.signal)
      watching = new Watch(memberId, items.map(({ id }) => id))
    } catch (error) {
      if (asking.signal.aborted) return
      if (!(error instanceof ApiError)) throw error
      // Without it they are told less: of what comes from now on.
      watching ??= new Watch(memberId, [])
    }
  }

  function show({ kind, conversationId }: Alert): void {
    if (isLookedAt() || !('Notification' in window) || Notification.permission !== 'granted') return
    // Nothing of what was said: others may see the screen.
    const shown = new Notification(t(`alert.${kind}`), { body: 'Botyard', tag: conversationId })
    shown.onclick = () => {
      shown.close()
      window.focus()
      void router.push({ name: 'inbox', params: { view: 'all', id: conversationId } })
    }
  }

  function sound({ conversationId }: Alert): void {
    const isBeforeEyes = isLookedAt() && router.currentRoute.value.params.id === conversationId
    if (isBeforeEyes || performance.now() - soundedAt < QUIET_MS) return
    soundedAt = performance.now()
    void chime()
  }

  useEvents(['conversation.owner_changed', 'message.created'], (event) => {
    const alert = watching?.hear(event)
    if (!alert || !isOurTurn.value) return
    show(alert)
    sound(alert)
  })
  useReload(() => void begin())
  watch(choice, begin, { immediate: true })
  onScopeDispose(() => {
    asking.abort()
  })
}

/** Who is signed in; every page asks here. */

import { computed, shallowRef } from 'vue'
import { api } from './api/api'
import type { Schemas } from './api/paths'
import { ApiError } from './api/problem'
import type { Me } from './api/types'
import { forgetDrafts } from './drafts'
import { live } from './realtime/live'

interface Audience {
  audience?: 'everyone' | 'operator' | 'member'
  permission?: string
}

const me = shallowRef<Me | null>(null)
let restored: Promise<void> | undefined

export const signedIn = {
  me: computed(() => me.value),
  isOperator: computed(() => me.value?.identity.operator === true),
  isTenantMember: computed(() => me.value !== null && me.value.tenant_id !== null),
  tenantName: computed(
    () => me.value?.memberships.find(({ tenant_id: id }) => id === me.value?.tenant_id)?.tenant_name,
  ),

  /** For hiding what would be refused; the server decides. */
  may(permission: string): boolean {
    return me.value?.permissions.includes(permission) === true
  },

  /** Whether a page is for them. */
  maySee({ audience, permission }: Audience): boolean {
    if (audience === 'operator' && !signedIn.isOperator.value) return false
    if (audience === 'member' && !signedIn.isTenantMember.value) return false
    return permission === undefined || signedIn.may(permission)
  },

  /** Continues the sign-in of an earlier visit, once; without one nobody is signed in. */
  restore(): Promise<void> {
    restored ??= api
      .refresh()
      .then(load)
      .catch((error: unknown) => {
        restored = undefined
        if (!(error instanceof ApiError) || !error.isRefusal) throw error
        restored = Promise.resolve()
      })
    return restored
  },

  async signIn(proof: Schemas['LoginIn']): Promise<void> {
    await api.signIn(proof)
    await load()
  },

  /** Asks again who they are, after something of their own was changed. */
  async renew(): Promise<void> {
    me.value = await api.get('/auth/me')
  },

  /** From the next refresh on the sign-in is another tenant's: the page begins anew. */
  async switchTo(tenantId: string): Promise<void> {
    await api.post('/auth/switch', { body: { tenant_id: tenantId } })
  },

  async signOut(): Promise<void> {
    await api.signOut()
    forgetDrafts(localStorage)
    signedIn.forget()
  },

  forget(): void {
    live.stop()
    me.value = null
  },
}

async function load(): Promise<void> {
  me.value = await api.get('/auth/me')
  // Operators have no stream.
  if (me.value.tenant_id !== null) live.start()
}

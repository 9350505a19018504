/** Who is signed in; every page asks here. */

import { computed, shallowRef } from 'vue'
import { api } from './api/api'
import type { Schemas } from './api/paths'
import { ApiError } from './api/problem'
import type { Me } from './api/types'
import { forgetDrafts } from './drafts'
import { endLook, lookOf } from './look'
import type { Look } from './look'
import { live } from './realtime/live'

interface Audience {
  audience?: 'everyone' | 'operator' | 'member'
  permission?: string
}

const me = shallowRef<Me | null>(null)
const look = shallowRef<Look | null>(null)
let restored: Promise<void> | undefined

export const signedIn = {
  me: computed(() => me.value),
  /** An operator who looks into a tenant sees what its people see, and nothing of the platform. */
  look: computed(() => look.value),
  isOperator: computed(() => me.value?.identity.operator === true && look.value === null),
  isTenantMember: computed(() => me.value !== null && me.value.tenant_id !== null),
  tenantName: computed(
    () =>
      look.value?.tenantName ??
      me.value?.memberships.find(({ tenant_id: id }) => id === me.value?.tenant_id)?.tenant_name,
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
    endLook(sessionStorage)
    api.lookInto = null
    look.value = null
    me.value = null
  },
}

async function load(): Promise<void> {
  const kept = lookOf(sessionStorage)
  if (kept !== null && (await mayLook(kept))) return
  me.value = await api.get('/auth/me')
  // Operators have no stream.
  if (me.value.tenant_id !== null) live.start()
}

/** A look that is over is forgotten. */
async function mayLook(kept: Look): Promise<boolean> {
  api.lookInto = kept.tenantId
  try {
    me.value = await api.get('/auth/me')
    look.value = kept
    return true
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error
    api.lookInto = null
    endLook(sessionStorage)
    return false
  }
}

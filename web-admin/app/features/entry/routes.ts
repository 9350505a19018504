import type { RouteRecordRaw } from 'vue-router'

export const entryRoutes: RouteRecordRaw[] = [
  {
    path: '/register',
    name: 'register',
    component: () => import('./RegisterPage.vue'),
    meta: { audience: 'everyone' },
  },
  {
    path: '/invitation',
    name: 'invitation',
    component: () => import('./InvitationPage.vue'),
    meta: { audience: 'everyone' },
  },
  {
    path: '/reset',
    name: 'reset',
    component: () => import('./ResetPage.vue'),
    meta: { audience: 'everyone' },
  },
]

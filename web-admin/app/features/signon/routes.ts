import type { RouteRecordRaw } from 'vue-router'

export const signOnRoutes: RouteRecordRaw[] = [
  {
    path: 'sign-on',
    name: 'signOn',
    component: () => import('./SignOnPage.vue'),
    meta: {
      audience: 'member',
      permission: 'sign_on.read',
      nav: { group: 'company', order: 20, label: 'nav.signOn' },
    },
  },
]

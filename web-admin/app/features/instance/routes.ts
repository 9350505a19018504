import type { RouteRecordRaw } from 'vue-router'

/** All that belongs to one bot stands below its own address. */
export const instanceRoutes: RouteRecordRaw[] = [
  {
    path: 'bots/:instanceId',
    component: () => import('./InstancePage.vue'),
    props: true,
    meta: { audience: 'member', permission: 'instances.read', under: 'overview' },
    children: [
      { path: '', name: 'instance', component: () => import('./StatusPage.vue'), props: true },
      { path: 'logs', name: 'logs', component: () => import('./LogsPage.vue'), props: true },
      {
        path: 'channels',
        name: 'channels',
        component: () => import('../channels/ChannelsPage.vue'),
        props: true,
        meta: { permission: 'channels.read' },
      },
      {
        path: 'behaviour',
        name: 'behaviour',
        component: () => import('../behaviour/BehaviourPage.vue'),
        props: true,
        meta: { permission: 'revisions.read' },
      },
      {
        path: 'versions',
        name: 'versions',
        component: () => import('../versions/VersionsPage.vue'),
        props: true,
        meta: { permission: 'revisions.read' },
      },
    ],
  },
]
